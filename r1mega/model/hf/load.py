"""Files of the Hugging Face layout into the parameters of this rank: every rank reads what its shards need."""

from collections.abc import Sequence
from pathlib import Path

import torch

from r1mega.config import ModelConfig
from r1mega.model.global_names import LocalWeight, local_weights
from r1mega.model.hf.config import read_hf_config
from r1mega.model.hf.folder import HfFolder
from r1mega.model.names import NameTable, Weight
from r1mega.parallel import Groups


@torch.no_grad()
def load_hf_weights(
    chunks: Sequence[torch.nn.Module], groups: Groups, model: ModelConfig, hf_dir: str | Path
) -> None:
    """Fill the policy's chunks from a folder in the Hugging Face DeepSeek-V3 layout, converting to their dtype.

    No rank talks to another; each reads, tensor by tensor, only the slices that it holds. Rows that pad the vocabulary
    become zero. An MTP layer in the files is passed over if `model` has none.
    Raises UserError, before anything is changed, for a folder that does not hold exactly this model.
    """
    folder = HfFolder(Path(hf_dir))
    table = NameTable(model)
    folder.check(table)
    if groups.rank == 0:
        folder.check_copies(table)
    interleaved = read_hf_config(folder.path).rope_interleave
    for local in local_weights(chunks, groups):
        weight = table.from_megatron(local.name)
        rope_rows = None if interleaved else interleaving(weight, model)
        parts = [_read_shard(folder, name, weight, local, rope_rows) for name in weight.files]
        whole = torch.cat(parts) if len(parts) > 1 else parts[0]
        rows = whole.shape[0]
        local.tensor[:rows].copy_(whole)
        local.tensor[rows:].zero_()


def _read_shard(
    folder: HfFolder, name: str, weight: Weight, local: LocalWeight, rope_rows: torch.Tensor | None
) -> torch.Tensor:
    """This rank's piece of one tensor of the files."""
    dim = local.shard_dim or 0
    size = weight.files[name][dim]
    shard = local.shard_group.rank() if local.num_shards > 1 else 0
    # The vocabulary is cut with its padding, so its last shards may hold less than a full piece, or nothing.
    piece = local.tensor.shape[0] if weight.is_vocabulary else size // local.num_shards
    begin, end = (min(index * piece, size) for index in (shard, shard + 1))
    if rope_rows is None:
        return folder.read(name, dim, begin, end)
    return folder.read(name)[rope_rows].narrow(dim, begin, end - begin)


def interleaving(weight: Weight, model: ModelConfig) -> torch.Tensor | None:
    """For a weight with rotated rows, the order [rows] that turns halves into neighbours; None for any other.

    Megatron rotates rows 2i and 2i+1 together, like the published weights. A folder with rope_interleave=false has
    such a pair at i and i + rope/2.
    """
    rope = model.qk_rope_head_dim
    neighbours = torch.arange(rope).view(2, rope // 2).T.reshape(rope)  # 0, rope/2, 1, rope/2 + 1, ...
    if weight.megatron.endswith("linear_kv_down_proj.weight"):
        return torch.cat([torch.arange(model.kv_lora_rank), model.kv_lora_rank + neighbours])
    if weight.megatron.endswith("linear_q_up_proj.weight"):
        one_head = torch.cat([torch.arange(model.qk_nope_head_dim), model.qk_nope_head_dim + neighbours])
        heads = torch.arange(model.num_attention_heads)[:, None] * len(one_head)
        return (heads + one_head).reshape(-1)
    return None

"""What a rank holds, by the names the weights have in the whole model."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch.distributed import ProcessGroup

from r1mega.model.weight import EMBEDDING, HEAD
from r1mega.parallel import Groups

LAYER = re.compile(r"^(decoder|mtp)\.layers\.(\d+)\.")
EXPERT = re.compile(r"\.local_experts\.(\d+)\.")


@dataclass(frozen=True, slots=True)
class LocalWeight:
    """A parameter (or the router's selection bias) of this rank and its place in the whole model."""

    name: str  # global layer and expert numbers
    tensor: torch.Tensor  # this rank's shard
    shard_dim: int | None  # which dimension is cut, None where every rank of `shard_group` holds it whole
    shard_group: ProcessGroup  # tensor-parallel ranks, or expert-tensor-parallel ones for an expert
    gated: bool  # gate and up are stacked along dim 0, and each is cut on its own

    @property
    def num_shards(self) -> int:
        return 1 if self.shard_dim is None else self.shard_group.size()

    def shard_of(self, full: torch.Tensor) -> torch.Tensor:
        """This rank's piece of a full tensor."""
        if self.num_shards == 1:
            return full
        parts = full.chunk(2) if self.gated else (full,)
        rank, dim = self.shard_group.rank(), self.shard_dim
        return torch.cat([part.chunk(self.num_shards, dim)[rank] for part in parts])


def local_weights(chunks: Sequence[torch.nn.Module], groups: Groups) -> Iterator[LocalWeight]:
    """Everything that makes up the policy on this rank: parameters, then selection biases, chunk by chunk.

    Under a pipeline the embedding may stand on the MTP's stage too, or be the head of the last; all carry its name.
    """
    for chunk in chunks:
        for name, tensor in [*chunk.named_parameters(), *chunk.named_buffers()]:
            if isinstance(tensor, torch.nn.Parameter) or name.endswith("expert_bias"):
                yield _locate(chunk, name, tensor, groups)


def _locate(chunk: torch.nn.Module, name: str, tensor: torch.Tensor, groups: Groups) -> LocalWeight:
    if name == HEAD and chunk.share_embeddings_and_output_weights:
        name = EMBEDDING
    layer = LAYER.match(name)
    if layer and layer[1] == "decoder":
        number = chunk.decoder.layers[int(layer[2])].layer_number - 1
        name = f"decoder.layers.{number}.{name[layer.end():]}"
    expert = EXPERT.search(name)
    if expert:
        per_rank = chunk.config.num_moe_experts // groups.ep.size()
        number = int(expert[1]) + per_rank * groups.ep_rank
        name = f"{name[:expert.start()]}.local_experts.{number}.{name[expert.end():]}"
    group = groups.expt_tp if expert else groups.tp
    cut = getattr(tensor, "tensor_model_parallel", False) and group.size() > 1
    return LocalWeight(name=name, tensor=tensor, shard_dim=tensor.partition_dim if cut else None, shard_group=group,
                       gated=name.endswith("linear_fc1.weight"))

"""The policy's shards, wherever they are, as whole tensors of the Hugging Face layout on rank 0, one by one."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
import torch.distributed as dist

from r1mega.config import ModelConfig
from r1mega.model.global_names import LocalWeight, local_weights
from r1mega.model.names import NameTable, Weight
from r1mega.parallel import Groups


@dataclass(frozen=True)
class Held:
    """What a rank tells the others about a shard it holds."""

    rank: int
    shard: int
    num_shards: int
    dim: int
    shape: tuple[int, ...]
    dtype: torch.dtype


@torch.no_grad()
def iter_hf_tensors(
    chunks: Sequence[torch.nn.Module], groups: Groups, model: ModelConfig
) -> Iterator[tuple[str, torch.Tensor]]:
    """Yield every (name, tensor) of the files on rank 0, on the CPU, in the dtype they are trained in.

    Collective: all ranks must run it to its end; ranks other than 0 yield nothing. At any time, one weight is on its
    way: rank 0 needs memory for its shards and for the tensors made of them. Padding rows are cut off, selection
    biases are fp32, and the copies of embedding and head that the MTP layer has in the files come right after the
    originals. Raises ValueError if some shard of the model is on no rank.
    """
    table = NameTable(model)
    local = _own_shards(chunks, groups)
    held = _who_holds_what(local, groups)
    copy_of = {original: copy for copy, original in table.copies.items()}
    for weight in table.weights:
        if weight.megatron not in held:
            raise ValueError(f"{weight.megatron}: no rank holds this weight")
        shards = _bring(held[weight.megatron], local, weight, groups)
        if groups.rank != 0:
            continue
        for name, tensor in _as_in_files(weight, shards, held[weight.megatron][0].dim):
            yield name, tensor
            if name in copy_of:
                yield copy_of[name], tensor


def _own_shards(chunks: Sequence[torch.nn.Module], groups: Groups) -> dict[str, LocalWeight]:
    """By Megatron's global name; of an embedding that stands on two chunks of a rank, one."""
    return {local.name: local for local in local_weights(chunks, groups)}


def _who_holds_what(local: dict[str, LocalWeight], groups: Groups) -> dict[str, list[Held]]:
    """For every weight, one holder a shard, in the order of the shards; the lowest rank of those that have it."""
    mine = {name: _held(weight, groups.rank) for name, weight in local.items()}
    everyone: list[dict[str, Held] | None] = [None] * groups.world_size
    dist.all_gather_object(everyone, mine)
    chosen: dict[str, dict[int, Held]] = {}
    for of_rank in everyone:
        for name, held in of_rank.items():
            chosen.setdefault(name, {}).setdefault(held.shard, held)
    for name, shards in chosen.items():
        expected = next(iter(shards.values())).num_shards
        if len(shards) != expected:
            raise ValueError(f"{name}: {len(shards)} of its {expected} shards are on some rank")
    return {name: [shards[index] for index in sorted(shards)] for name, shards in chosen.items()}


def _held(local: LocalWeight, rank: int) -> Held:
    return Held(
        rank=rank, shard=local.shard_group.rank() if local.num_shards > 1 else 0, num_shards=local.num_shards,
        dim=local.shard_dim or 0, shape=tuple(local.tensor.shape), dtype=local.tensor.dtype)


def _bring(
    holders: list[Held], local: dict[str, LocalWeight], weight: Weight, groups: Groups
) -> list[torch.Tensor]:
    """The shards of one weight on rank 0's CPU, in their order; nothing on the others."""
    shards = []
    for held in holders:
        if groups.rank == 0 and held.rank == 0:
            shards.append(local[weight.megatron].tensor.cpu())
        elif groups.rank == 0:
            # As bytes: gloo does not send every dtype.
            received = torch.empty(held.shape, dtype=held.dtype, device=groups.device)
            dist.recv(_bytes(received), src=held.rank)
            shards.append(received.cpu())
        elif groups.rank == held.rank:
            dist.send(_bytes(local[weight.megatron].tensor.contiguous()), dst=0)
    return shards


def _bytes(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.detach().view(-1).view(torch.uint8)


def _as_in_files(weight: Weight, shards: list[torch.Tensor], dim: int) -> Iterator[tuple[str, torch.Tensor]]:
    """Join the shards and take apart what the files keep apart. A shard of gate and up holds a piece of each."""
    names = list(weight.files)
    pieces = [shard.chunk(len(names)) for shard in shards]
    for part, name in enumerate(names):
        parts = [piece[part] for piece in pieces]
        tensor = torch.cat(parts, dim) if len(parts) > 1 else parts[0]
        if weight.is_vocabulary:
            tensor = tensor[: weight.files[name][0]]
        if tensor.shape != weight.files[name]:
            raise ValueError(f"{name}: collected shape {list(tensor.shape)} is not {list(weight.files[name])}")
        yield name, tensor.float() if weight.is_selection_bias else tensor

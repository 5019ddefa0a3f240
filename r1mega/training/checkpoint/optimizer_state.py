"""Optimizer state that does not know its layout: every parameter's master weight and moments under the
parameter's name.

Megatron's distributed optimizer keeps flat slices of buckets, in one inner optimizer for dense parameters
and, where experts have groups of their own, a second one. Here slices are put together into tensors shaped
like the parameter and described by the parameter's own ShardedTensor, so they reshard wherever the parameter
does. Megatron's `fully_reshardable` has the same idea, but (0.19.2) takes offsets into the padded buffer for
offsets into a buffer without padding, which is wrong from the second bucket on, and needs Apex's or
Transformer Engine's Adam to load.
"""

from bisect import bisect_right
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
import torch.distributed as dist
from megatron.core.dist_checkpointing.dict_utils import nested_values
from megatron.core.dist_checkpointing.mapping import ShardedTensor, ShardedTensorFactory, is_main_replica

from r1mega.training.checkpoint.shards import ShardReader
from r1mega.training.checkpoint.weights import sharded_weights

if TYPE_CHECKING:
    from megatron.core.optimizer import DistributedOptimizer, MegatronOptimizer

    from r1mega.parallel import Groups

MASTER = "master"
MOMENTS = ("exp_avg", "exp_avg_sq")
STATES = (MASTER, *MOMENTS)
PIECE = 1 << 26  # elements gathered at once from the data ranks: 256 MB


@dataclass(frozen=True, slots=True)
class _Slice:
    """The part of a parameter whose state this rank owns: its flat elements [start, end)."""

    start: int
    end: int
    states: Mapping[str, torch.Tensor]  # master, exp_avg, exp_avg_sq: each [end - start] fp32


def optimizer_step(optimizer: "MegatronOptimizer") -> int:
    """How many steps Adam has taken (its bias correction), as far as this rank knows; 0 before the first."""
    steps = [0]
    for inner in _inner_optimizers(optimizer):
        steps += [int(group.get("step", 0)) for group in inner.optimizer.param_groups]
        steps += [int(state.get("step", 0)) for state in inner.optimizer.state.values()]
    return max(steps)


def sharded_optimizer_state(
    optimizer: "MegatronOptimizer", chunks: Sequence[torch.nn.Module], groups: "Groups"
) -> dict[str, Any]:
    """Sharded state dict {f"{n}.{state}": ShardedTensor} of master weights and moments, fp32, on the host.

    Collective over each inner optimizer's data-parallel group. Ranks that are not the main replica of a
    parameter leave its data out at once, so that host memory holds a tensor once; the device needs room for
    one piece of one state, since there is little beside a model in training.
    """
    _initialize_state(optimizer)
    described = _described_parameters(chunks, groups)
    result: dict[str, Any] = {}
    for inner in _inner_optimizers(optimizer):
        for parameter, states in _gathered_states(
            inner, lambda parameter: is_main_replica(described[id(parameter)].replica_id)
        ):
            result |= _like_parameter(described[id(parameter)], len(result), states)
    return result


def load_optimizer_state(
    folder: Path,
    optimizer: "MegatronOptimizer",
    chunks: Sequence[torch.nn.Module],
    groups: "Groups",
    step: int,
) -> None:
    """Fill master weights and moments in place from `folder`, saved under any layout; `step` is Adam's step
    count.

    Load the weights first: in fp32 the master weights are the weights. Raises UserError in one line.
    """
    _initialize_state(optimizer)
    described = _described_parameters(chunks, groups)
    reader = ShardReader(folder)
    for inner in _inner_optimizers(optimizer):
        for parameter, owned in _owned_slices(inner):
            # one parameter at a time: a rank reads whole tensors and keeps its slice of them
            empty = {name: torch.empty(parameter.shape, dtype=torch.float32) for name in owned.states}
            loaded = reader.read(_like_parameter(described[id(parameter)], 0, empty))
            for name, state in owned.states.items():
                state.copy_(loaded[f"0.{name}"].view(-1)[owned.start : owned.end])
        _set_step(inner, step)


def _inner_optimizers(optimizer: "MegatronOptimizer") -> list["DistributedOptimizer"]:
    inner = getattr(optimizer, "chained_optimizers", [optimizer])
    return [one for one in inner if not getattr(one, "is_stub_optimizer", False)]


def _described_parameters(
    chunks: Sequence[torch.nn.Module], groups: "Groups"
) -> dict[int, ShardedTensor | ShardedTensorFactory]:
    """id(parameter) -> how Megatron shards it."""
    shards = nested_values(sharded_weights(chunks, groups))
    return {
        id(shard.data): shard for shard in shards if isinstance(shard, ShardedTensor | ShardedTensorFactory)
    }


def _like_parameter(
    shard: ShardedTensor | ShardedTensorFactory, number: int, states: Mapping[str, torch.Tensor]
) -> dict[str, Any]:
    """The states, each sharded exactly as their parameter is, under keys `{state}.{parameter's key}`."""
    result = {}
    for name, data in states.items():
        changes: dict[str, Any] = {"key": f"{name}.{shard.key}", "data": data}
        if isinstance(shard, ShardedTensor):
            changes["dtype"] = data.dtype
        result[f"{number}.{name}"] = replace(shard, **changes)
    return result


def _owned_slices(inner: "DistributedOptimizer") -> Iterator[tuple[torch.nn.Parameter, _Slice]]:
    for bucket_ranges in _buckets(inner):
        for parameter, ranges in bucket_ranges[1]["param_map"].items():
            start, end = ranges["param"].start, ranges["param"].end
            yield parameter, _Slice(start, end, _own_states(inner, parameter))


def _own_states(inner: "DistributedOptimizer", parameter: torch.nn.Parameter) -> dict[str, torch.Tensor]:
    master = _master(inner, parameter)
    state = inner.optimizer.state[master]
    return {MASTER: master.detach(), **{name: state[name] for name in MOMENTS}}


def _master(inner: "DistributedOptimizer", parameter: torch.nn.Parameter) -> torch.Tensor:
    """This rank's fp32 slice of the parameter. Where a group has parameters of both kinds, Megatron puts those of fp32
    first, which its own map of positions does not know."""
    group, position = inner.model_param_group_index_map[parameter]
    exact, rounded = inner.model_fp32_groups[group], inner.model_float16_groups[group]
    if exact and rounded:
        kinds = [(exact, inner.shard_fp32_groups), (rounded, inner.shard_fp32_from_float16_groups)]
        return next(master for models, masters in kinds for model, master in zip(models, masters[group], strict=True)
                    if model is parameter)
    return inner.optimizer.param_groups[group]["params"][position]


def _buckets(inner: "DistributedOptimizer") -> Iterator[tuple[Any, Mapping[str, Any], Any]]:
    """(bucket, this rank's ranges in it, its buffer) of every bucket, in the same order on all ranks."""
    for buffer, ranges_by_dtype in zip(inner.buffers, inner.gbuf_ranges, strict=True):
        for ranges in ranges_by_dtype.values():
            yield from ((bucket, own, buffer) for bucket, own in zip(buffer.buckets, ranges, strict=True))


def _gathered_states(
    inner: "DistributedOptimizer", wanted: Callable[[torch.nn.Parameter], bool]
) -> Iterator[tuple[torch.nn.Parameter, dict[str, torch.Tensor]]]:
    """Every wanted parameter with copies of its whole states, in host memory. Collective over the data
    ranks."""
    alone = inner.data_parallel_group.size() == 1
    for bucket, own, buffer in _buckets(inner):
        # the map counts from the start of the padded buffer, as bucket.offset does
        places = {
            parameter: (start - bucket.offset, end - bucket.offset)
            for parameter, (start, end, number) in buffer.param_index_map.items()
            if buffer.buckets[number] is bucket and wanted(parameter)
        }
        if alone:
            for parameter in places:
                states = _own_states(inner, parameter)
                yield parameter, {
                    name: state.to("cpu", copy=True).view(parameter.shape) for name, state in states.items()
                }
        else:
            copies = {
                parameter: {name: torch.empty(parameter.shape) for name in STATES} for parameter in places
            }
            for name in STATES:
                flat = [(*places[p], states[name].view(-1)) for p, states in copies.items()]
                flat.sort(key=lambda one: one[0])
                for begin, elements in _gathered_pieces(inner, bucket, own, name):
                    _copy_overlaps(flat, begin, elements)
            yield from copies.items()


def _gathered_pieces(
    inner: "DistributedOptimizer", bucket: Any, own: Mapping[str, Any], name: str
) -> Iterator[tuple[int, torch.Tensor]]:
    """One state of a whole bucket, as (place in the bucket, the elements from there on).

    All the device memory it takes is for about PIECE elements, whatever the bucket's size: the next piece
    is written over the last.
    """
    group, device = inner.data_parallel_group, bucket.grad_data.device
    size = bucket.grad_data.numel() // group.size()
    length = max(1, min(size, PIECE // group.size()))
    mine = torch.zeros(length, dtype=torch.float32, device=device)
    parts = torch.empty(length * group.size(), dtype=torch.float32, device=device)
    for begin in range(0, size, length):
        end = min(begin + length, size)
        for parameter, ranges in own["param_map"].items():
            place = ranges["gbuf_local"]
            low, high = max(place.start, begin), min(place.end, end)
            if low < high:
                state = _own_states(inner, parameter)[name]
                mine[low - begin : high - begin].copy_(state[low - place.start : high - place.start])
        dist.all_gather_into_tensor(parts, mine, group=group)
        for rank in range(group.size()):
            yield rank * size + begin, parts[rank * length :][: end - begin]


def _copy_overlaps(
    flat: Sequence[tuple[int, int, torch.Tensor]], begin: int, elements: torch.Tensor
) -> None:
    """Into each (start, end, its elements), ordered and apart, what lies in [begin, begin + elements)."""
    end = begin + len(elements)
    for start, stop, target in flat[bisect_right(flat, begin, key=lambda one: one[1]) :]:
        if start >= end:
            break
        low, high = max(start, begin), min(stop, end)
        target[low - start : high - start].copy_(elements[low - begin : high - begin])


def _initialize_state(optimizer: "MegatronOptimizer") -> None:
    """Give Adam the zero moments it would make at its first step, where it has none yet."""
    for inner in _inner_optimizers(optimizer):
        for group in inner.optimizer.param_groups:
            for parameter in group["params"]:
                state = inner.optimizer.state[parameter]
                for name in MOMENTS:
                    if name not in state:
                        state[name] = torch.zeros_like(parameter)
                if _is_torch_adam(inner) and "step" not in state:
                    on_device = group.get("fused") or group.get("capturable")
                    state["step"] = torch.zeros(
                        (), dtype=torch.float32, device=parameter.device if on_device else "cpu"
                    )


def _set_step(inner: "DistributedOptimizer", step: int) -> None:
    if _is_torch_adam(inner):
        for state in inner.optimizer.state.values():
            state["step"].fill_(step)
    else:  # Transformer Engine's and Apex's Adam count in the group
        for group in inner.optimizer.param_groups:
            group["step"] = step


def _is_torch_adam(inner: "DistributedOptimizer") -> bool:
    return isinstance(inner.optimizer, torch.optim.Adam | torch.optim.AdamW)

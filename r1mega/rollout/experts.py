"""Feed-forward layers while sampling: dense, or a mixture of experts without its token exchange.

Weights do not change during a rollout, so where they fit, every rank gathers all experts of its layers once
and then routes its own tokens at home: no exchange per layer and token, and replicas need not step together.
Where they do not fit, Megatron's own layer runs, exchange included.
"""

# Shapes: T tokens, H hidden size, E experts, I width of one expert, K experts a token.

import torch
import torch.distributed as dist
import torch.nn.functional as F
from megatron.core.transformer.moe.experts import SequentialMLP
from megatron.core.transformer.moe.moe_layer import MoELayer
from torch import Tensor, nn

from r1mega.config import ModelConfig
from r1mega.parallel import Groups


def swiglu(hidden: Tensor, fc1: Tensor, fc2: Tensor) -> Tensor:
    """hidden [T, H], fc1 [2I, H] (gate, then up), fc2 [H, I] -> [T, H]."""
    gate, up = F.linear(hidden, fc1).chunk(2, -1)
    return F.linear(F.silu(gate).mul_(up), fc2)


class DenseFfn:
    """A dense layer, its width spread over the tensor-parallel group."""

    def __init__(self, mlp: nn.Module, groups: Groups) -> None:
        self._fc1, self._fc2 = mlp.linear_fc1.weight, mlp.linear_fc2.weight
        self._tp = groups.tp

    def __call__(self, hidden: Tensor) -> Tensor:
        """hidden [T, H], the same on all ranks of the group -> [T, H]."""
        output = swiglu(hidden, self._fc1, self._fc2)
        if self._tp.size() > 1:
            dist.all_reduce(output, group=self._tp)
        return output


class LocalExperts:
    """A mixture of experts of which this rank holds all routed experts."""

    def __init__(self, moe: MoELayer, groups: Groups) -> None:
        self._router = moe.router
        self._shared = DenseFfn(moe.shared_experts, groups) if moe.shared_experts is not None else None
        local = moe.experts.local_experts
        self._fc1 = [expert.linear_fc1.weight for expert in local]  # E of [2I, H]
        self._fc2 = [expert.linear_fc2.weight for expert in local]  # E of [H, I]
        if groups.expt_tp.size() > 1 or groups.ep.size() > 1:
            self._fc1, self._fc2 = _gather_experts(torch.stack(self._fc1), torch.stack(self._fc2), groups)

    def __call__(self, hidden: Tensor) -> Tensor:
        """hidden [T, H] -> [T, H]."""
        probs, routing_map = self._router(hidden[None])  # [T, E] each, probs 0 off the map
        experts, tokens = routing_map.t().nonzero().unbind(1)  # [T * K] each, sorted by expert
        counts = routing_map.sum(0).tolist()
        inputs = hidden.index_select(0, tokens).split(counts)
        gate, up = torch.cat([F.linear(x, w) for x, w in zip(inputs, self._fc1, strict=True)]).chunk(2, -1)
        inner = F.silu(gate).mul_(up).mul_(probs[tokens, experts][:, None])  # [T * K, I]
        outputs = torch.cat([F.linear(x, w) for x, w in zip(inner.split(counts), self._fc2, strict=True)])
        output = torch.zeros_like(hidden) if self._shared is None else self._shared(hidden)
        return output.index_add_(0, tokens, outputs)


class DispatchedExperts:
    """Megatron's own layer: tokens travel to the ranks that hold their experts, so those must step together.
    """

    def __init__(self, moe: MoELayer) -> None:
        self._moe = moe

    def __call__(self, hidden: Tensor) -> Tensor:
        """hidden [T, H] (T may differ between replicas, but is at least 1) -> [T, H]."""
        return self._moe(hidden[:, None])[0][:, 0]


def experts_fit(config: ModelConfig, groups: Groups, element_size: int, budget: int) -> bool:
    """Whether copies of the routed experts of one pipeline rank's layers stay within `budget` bytes; the same on all
    ranks. A rank that holds all of them whole makes none; one that gathers them copies its own as well.
    """
    if config.num_moe_layers == 0 or groups.ep.size() * groups.expt_tp.size() == 1:
        return True
    one = 3 * config.hidden_size * config.moe_ffn_hidden_size * element_size
    layers = -(-config.num_moe_layers // groups.pp.size())
    return one * config.num_experts * layers <= budget


Ffn = DenseFfn | LocalExperts | DispatchedExperts


def build_ffn(mlp: nn.Module, groups: Groups, local_experts: bool) -> Ffn:
    """How the feed-forward part of one Megatron layer is computed while sampling."""
    if not isinstance(mlp, MoELayer):
        return DenseFfn(mlp, groups)
    if local_experts and isinstance(mlp.experts, SequentialMLP):
        return LocalExperts(mlp, groups)
    return DispatchedExperts(mlp)


def _gather_experts(fc1: Tensor, fc2: Tensor, groups: Groups) -> tuple[list[Tensor], list[Tensor]]:
    """This rank's [local E, 2 * part of I, H] and [local E, H, part of I] -> those of all E experts, whole.
    """
    gate_up = _gather_slices(fc1.unflatten(1, (2, -1)), groups.expt_tp).flatten(1, 2)
    down = _gather_slices(fc2, groups.expt_tp)
    return list(_gather(gate_up, groups.ep)), list(_gather(down, groups.ep))


def _gather(x: Tensor, group: dist.ProcessGroup) -> Tensor:
    """[n, ..] of every rank -> [ranks * n, ..], received in place: nothing else of its size is ever allocated."""
    if group.size() == 1:
        return x
    whole = x.new_empty(group.size() * len(x), *x.shape[1:])
    dist.all_gather_into_tensor(whole, x.contiguous(), group=group)
    return whole


def _gather_slices(x: Tensor, group: dist.ProcessGroup) -> Tensor:
    """[local E, a, b, ..] of every rank -> the same, joined along dimension 2 (of this rank's experts only)."""
    if group.size() == 1:
        return x
    slices = _gather(x, group).unflatten(0, (group.size(), -1))  # [ranks, local E, a, b, ..]
    return slices.movedim(0, 2).flatten(2, 3)

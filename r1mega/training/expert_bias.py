"""Balancing experts without an auxiliary loss (arXiv 2412.19437, section 2.1.2; arXiv 2408.15664)."""

from collections.abc import Sequence

import torch
import torch.distributed as dist

from r1mega.model import Policy
from r1mega.model.router import Router
from r1mega.parallel import Groups


class ExpertLoads:
    """Tokens each expert got in a step, over all ranks that share a layer's routers."""

    def __init__(self, chunks: Sequence[Policy], groups: Groups):
        self.routers = [m for chunk in chunks for m in chunk.modules() if isinstance(m, Router)]
        self.group = groups.pg.tp_dp_cp
        self._counted: list[torch.Tensor] = []

    def collect(self) -> None:
        """Take over what this rank's routers have counted."""
        self._counted = [router.local_tokens_per_expert.clone() for router in self.routers]

    @torch.no_grad()
    def totals(self) -> torch.Tensor:
        """[MoE layers of this stage, E] fp32 tokens of the last collected step."""
        if not self._counted:
            return torch.zeros(0, 0)
        loads_LE = torch.stack(self._counted)
        dist.all_reduce(loads_LE, group=self.group)
        return loads_LE

    @torch.no_grad()
    def move_biases(self, loads_LE: torch.Tensor, rate: float) -> None:
        """Lower the bias of experts above the mean load of their layer by `rate`, raise it below."""
        for router, loads_E in zip(self.routers, loads_LE, strict=True):
            router.expert_bias += rate * torch.sign(loads_E.mean() - loads_E)


def imbalance(loads_LE: torch.Tensor) -> torch.Tensor:
    """[2] float64: the largest load over the mean load, summed over layers, and the number of layers.

    Layers that saw nothing, like those of an MTP that is off, do not count.
    """
    loads_LE = loads_LE[loads_LE.sum(dim=-1) > 0] if loads_LE.numel() else loads_LE
    if loads_LE.numel() == 0:
        return torch.zeros(2, dtype=torch.float64)
    ratios_L = loads_LE.max(dim=1).values / loads_LE.mean(dim=1)
    return torch.stack([ratios_L.double().sum(), ratios_L.new_tensor(len(ratios_L)).double()])

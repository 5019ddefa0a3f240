"""Cross-entropy of flash-linear-attention."""

from collections.abc import Callable

import torch

from r1mega_kernels.benchmarks.peer import Collective, Peer, Result, by_autograd
from r1mega_kernels.benchmarks.problem import LinearProblem, LogitsProblem


def _logits(_: torch.device) -> Callable[[LogitsProblem], Result]:
    from fla.modules.fused_cross_entropy import cross_entropy_loss

    def forward(problem: LogitsProblem) -> Result:
        loss_T, _ = cross_entropy_loss(problem.logits_TV, problem.targets_T, inplace_backward=True)
        return by_autograd(loss_T, problem)
    return forward


def _linear(_: torch.device) -> Callable[[LinearProblem], Result]:
    from fla.modules.fused_linear_cross_entropy import fused_linear_cross_entropy_loss

    def forward(problem: LinearProblem) -> Result:
        loss = fused_linear_cross_entropy_loss(
            problem.hidden_TH, problem.targets_T, problem.weight_VH, reduction="sum")
        return by_autograd(loss, problem)
    return forward


def peers() -> list[Peer]:
    return [
        Peer(name="FLA CE", package="fla-core", operation="logits", computes="NLL; temperature, TP", overwrites=True,
             collectives=(Collective("all-gather", 4), Collective("all-reduce", 4)), load=_logits),
        Peer(name="FLA linear CE", package="fla-core", operation="linear", computes="sum of NLL; temperature, TP",
             gradient_in_forward=True, load=_linear),
    ]

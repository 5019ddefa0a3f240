"""QuACK: cross-entropy in two kernels, in one with the row kept on chip, and from hidden states."""

from collections.abc import Callable

import torch

from r1mega_kernels.benchmarks.peer import Peer, Result, by_autograd
from r1mega_kernels.benchmarks.problem import LinearProblem, LogitsProblem


def _two_kernels(_: torch.device) -> Callable[[LogitsProblem], Result]:
    from quack.cross_entropy import cross_entropy

    def forward(problem: LogitsProblem) -> Result:
        loss_T = cross_entropy(problem.logits_TV, problem.targets_T, reduction="none", inplace_backward=True)
        return by_autograd(loss_T, problem)
    return forward


def _one_kernel(_: torch.device) -> Callable[[LogitsProblem], Result]:
    from quack.cross_entropy import cross_entropy_fwd

    def forward(problem: LogitsProblem) -> Result:
        loss_T, gradient_TV = cross_entropy_fwd(
            problem.logits_TV.detach(), problem.targets_T, return_dx=True, inplace_backward=True)
        return Result(loss_T, None, lambda: (gradient_TV,))
    return forward


def _linear(_: torch.device) -> Callable[[LinearProblem], Result]:
    from quack.linear_cross_entropy import chunked_linear_cross_entropy

    def forward(problem: LinearProblem) -> Result:
        loss = chunked_linear_cross_entropy(
            problem.hidden_TH, problem.weight_VH, problem.targets_T, reduction="sum")
        return by_autograd(loss, problem)
    return forward


def peers() -> list[Peer]:
    common = {"package": "quack-kernels"}
    return [
        Peer(name="QuACK CE", operation="logits", computes="NLL; no TP", overwrites=True, load=_two_kernels, **common),
        Peer(name="QuACK CE, one kernel", operation="logits", computes="NLL, upstream gradient 1; no TP",
             overwrites=True, gradient_in_forward=True, load=_one_kernel, **common),
        Peer(name="QuACK linear CE", operation="linear", computes="sum of NLL", gradient_in_forward=True,
             load=_linear, **common),
    ]

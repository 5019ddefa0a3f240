"""verl's fused linear log-prob and entropy in Triton."""

from collections.abc import Callable

import torch

from r1mega_kernels.benchmarks.peer import Peer, Result, by_autograd
from r1mega_kernels.benchmarks.problem import LinearProblem


def _load(_: torch.device) -> Callable[[LinearProblem], Result]:
    from verl.utils.kernel.linear_cross_entropy import linear_cross_entropy

    def forward(problem: LinearProblem) -> Result:
        log_probs_T, entropy_T = linear_cross_entropy(
            problem.hidden_TH, problem.weight_VH, problem.targets_T, 1.0, "none", None)
        return by_autograd(-log_probs_T, problem, entropy_T)
    return forward


def peers() -> list[Peer]:
    return [Peer(name="verl linear CE", package="verl", operation="linear", computes="NLL, entropy; temperature, TP",
                 load=_load)]

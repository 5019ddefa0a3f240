"""What one writes without any library: log_softmax, gather, entropy; as it stands, and through torch.compile."""

from collections.abc import Callable

import torch
from torch import Tensor

from r1mega_kernels.benchmarks.exact import grpo_loss_by_hand
from r1mega_kernels.benchmarks.peer import Peer, Result, by_autograd
from r1mega_kernels.benchmarks.problem import LinearProblem, LogitsProblem


def nll_and_entropy(logits_TV: Tensor, targets_T: Tensor) -> tuple[Tensor, Tensor]:
    log_p_TV = logits_TV.float().log_softmax(1)
    with torch.no_grad():
        entropy_T = -(log_p_TV.exp() * log_p_TV).sum(1)
    return -log_p_TV.gather(1, targets_T[:, None])[:, 0], entropy_T


def linear_nll_and_entropy(hidden_TH: Tensor, weight_VH: Tensor, targets_T: Tensor) -> tuple[Tensor, Tensor]:
    return nll_and_entropy(hidden_TH @ weight_VH.T, targets_T)


def grpo(logits_TV: Tensor, targets_T: Tensor, old_T: Tensor, ref_T: Tensor, advantage: float) -> tuple[Tensor, Tensor]:
    nll_T, entropy_T = nll_and_entropy(logits_TV, targets_T)
    return grpo_loss_by_hand(-nll_T, old_T, ref_T, advantage), entropy_T


def _logits(wrap: Callable[[Callable], Callable]) -> Callable[[LogitsProblem], Result]:
    function = wrap(nll_and_entropy)
    return lambda problem: _result(problem, function(problem.logits_TV, problem.targets_T))


def _linear(wrap: Callable[[Callable], Callable]) -> Callable[[LinearProblem], Result]:
    function = wrap(linear_nll_and_entropy)
    return lambda problem: _result(problem, function(problem.hidden_TH, problem.weight_VH, problem.targets_T))


def _grpo(wrap: Callable[[Callable], Callable]) -> Callable[[LogitsProblem], Result]:
    function = wrap(grpo)
    return lambda problem: _result(
        problem, function(problem.logits_TV, problem.targets_T, problem.old_T, problem.ref_T, problem.advantage))


def _result(problem: LogitsProblem | LinearProblem, outputs: tuple[Tensor, Tensor]) -> Result:
    return by_autograd(outputs[0], problem, outputs[1])


def _as_it_is(function: Callable) -> Callable:
    return function


def _compiled(function: Callable) -> Callable:
    return torch.compile(function, dynamic=True)


def peers() -> list[Peer]:
    ways = (("torch eager", _as_it_is), ("torch.compile", _compiled))
    operations = (("logits", "NLL, entropy", _logits), ("linear", "NLL, entropy", _linear),
                  ("grpo", "GRPO, entropy", _grpo))
    return [
        Peer(name=name, package="torch", operation=operation, computes=computes, needs_gpu=False,
             load=lambda _, make=make, wrap=wrap: make(wrap))
        for operation, computes, make in operations for name, wrap in ways
    ]

"""r1mega_kernels itself, by its public functions."""

from collections.abc import Callable

import torch

from r1mega_kernels import (
    CrossEntropy,
    Grpo,
    GrpoOptions,
    GrpoTokens,
    Implementation,
    LinearOptions,
    Options,
    linear_log_prob,
    linear_loss,
    log_prob,
    logits_loss,
)
from r1mega_kernels.benchmarks.exact import CLIP, KL_COEF
from r1mega_kernels.benchmarks.peer import Collective, Peer, Result, by_autograd
from r1mega_kernels.benchmarks.problem import LinearProblem, LogitsProblem

PACKED = (Collective("all-gather", 16),)
"""(m, s, z_target, b) in fp32, forward only."""


def _log_prob(implementation: Implementation) -> Callable[[LogitsProblem], Result]:
    def forward(problem: LogitsProblem) -> Result:
        log_probs_T, entropy_T = log_prob(
            problem.logits_TV, problem.targets_T, implementation=implementation, inplace_backward=True)
        return by_autograd(-log_probs_T, problem, entropy_T)
    return forward


def _logits_loss(implementation: Implementation) -> Callable[[LogitsProblem], Result]:
    def forward(problem: LogitsProblem) -> Result:
        loss_T, _, entropy_T, _ = logits_loss(
            problem.logits_TV, problem.targets_T, CrossEntropy(problem.ones_T), Options(implementation=implementation),
            inplace=True)
        return by_autograd(loss_T, problem, entropy_T)
    return forward


def _grpo(implementation: Implementation) -> Callable[[LogitsProblem], Result]:
    options = GrpoOptions(clip_low=CLIP, clip_high=CLIP, kl_coef=KL_COEF)

    def forward(problem: LogitsProblem) -> Result:
        tokens = GrpoTokens(
            advantages_T=problem.ones_T * problem.advantage, weights_T=problem.ones_T, old_log_probs_T=problem.old_T,
            ref_log_probs_T=problem.ref_T)
        loss_T, _, entropy_T, _ = logits_loss(
            problem.logits_TV, problem.targets_T, Grpo(tokens, options, implementation),
            Options(implementation=implementation), inplace=True)
        return by_autograd(loss_T, problem, entropy_T)
    return forward


def _options(implementation: Implementation, budget_bytes: int, fp32: bool = False) -> LinearOptions:
    """The logits get the byte budget less 1 / 128, which is for the numbers that every token has."""
    return LinearOptions(implementation=implementation, max_logits_bytes=budget_bytes - budget_bytes // 128,
                         fp32_logits=fp32)


def _linear_loss(implementation: Implementation, budget_bytes: int, fp32: bool) -> Callable[[LinearProblem], Result]:
    options = _options(implementation, budget_bytes, fp32)

    def forward(problem: LinearProblem) -> Result:
        loss_T, _, entropy_T, _ = linear_loss(
            problem.hidden_TH, problem.weight_VH, problem.targets_T, CrossEntropy(problem.ones_T), options,
            main_grad=problem.main_grad_VH)

        def gradients() -> tuple[torch.Tensor, ...]:
            return *torch.autograd.grad(loss_T, problem.hidden_TH, problem.ones_T), problem.main_grad_VH
        return Result(loss_T, entropy_T, gradients)
    return forward


def _linear_log_prob(implementation: Implementation, budget_bytes: int) -> Callable[[LinearProblem], Result]:
    options = _options(implementation, budget_bytes)

    def forward(problem: LinearProblem) -> Result:
        log_probs_T, entropy_T = linear_log_prob(
            problem.hidden_TH, problem.weight_VH, problem.targets_T, options, main_grad=problem.main_grad_VH)

        def gradients() -> tuple[torch.Tensor, ...]:
            d_hidden_TH, _ = torch.autograd.grad(-log_probs_T, problem.leaves, problem.ones_T, allow_unused=True)
            return d_hidden_TH, problem.main_grad_VH
        return Result(-log_probs_T, entropy_T, gradients)
    return forward


def peers(budget_bytes: int) -> list[Peer]:
    """In Triton first, then the plain reference."""
    found = []
    for implementation in ("triton", "reference"):
        common = {"package": "r1mega", "ours": True, "needs_gpu": implementation == "triton", "overwrites": True}
        name = f"r1mega {implementation}"
        found += [
            Peer(name=name, operation="logits", computes="NLL, entropy; temperature, TP", collectives=PACKED,
                 load=lambda _, i=implementation: _log_prob(i), **common),
            Peer(name=f"{name} fused", operation="logits", computes="NLL, entropy; temperature, TP",
                 gradient_in_forward=True, collectives=PACKED, load=lambda _, i=implementation: _logits_loss(i),
                 **common),
            Peer(name=name, operation="grpo", computes="GRPO, entropy; packed, TP", gradient_in_forward=True,
                 collectives=PACKED, load=lambda _, i=implementation: _grpo(i), **common),
            Peer(name=name, operation="linear", computes="NLL, entropy; temperature, TP; fp32 main gradient",
                 gradient_in_forward=True, load=lambda _, i=implementation: _linear_loss(i, budget_bytes, False),
                 **common),
            Peer(name=f"{name} recompute", operation="linear", computes="NLL, entropy for any loss; temperature, TP",
                 load=lambda _, i=implementation: _linear_log_prob(i, budget_bytes), **common),
        ]
    found.append(Peer(
        name="r1mega triton fp32 logits", package="r1mega", operation="linear", ours=True, overwrites=True,
        computes="NLL, entropy; temperature, TP; fp32 main gradient, fp32 logits", gradient_in_forward=True,
        load=lambda _: _linear_loss("triton", budget_bytes, True)))
    return found

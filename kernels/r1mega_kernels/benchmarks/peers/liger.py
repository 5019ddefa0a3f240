"""Liger: vocab-parallel cross-entropy, the two fused linear ones, and its GRPO loss."""

from collections.abc import Callable

import torch

from r1mega_kernels.benchmarks.exact import CLIP, KL_COEF
from r1mega_kernels.benchmarks.peer import Collective, Peer, Result, by_autograd
from r1mega_kernels.benchmarks.problem import LinearProblem, LogitsProblem

IGNORED = -100


def _logits(_: torch.device) -> Callable[[LogitsProblem], Result]:
    from liger_kernel.ops.vocab_parallel_cross_entropy import LigerVocabParallelCEFunction

    def forward(problem: LogitsProblem) -> Result:
        loss_T1 = LigerVocabParallelCEFunction.apply(
            problem.logits_TV[:, None], problem.targets_T[:, None], None, IGNORED, 0.0, "pytorch", "global")
        upstream_T1 = problem.ones_T[:, None]
        return Result(loss_T1[:, 0], None, lambda: torch.autograd.grad(loss_T1, problem.leaves, upstream_T1))
    return forward


def _linear_sum(_: torch.device) -> Callable[[LinearProblem], Result]:
    from liger_kernel.transformers.functional import liger_fused_linear_cross_entropy

    def forward(problem: LinearProblem) -> Result:
        loss = liger_fused_linear_cross_entropy(
            problem.hidden_TH, problem.weight_VH, problem.targets_T, reduction="sum", accum_dtype=torch.float32)
        return by_autograd(loss, problem)
    return forward


def _linear_scaled(_: torch.device) -> Callable[[LinearProblem], Result]:
    """On an H100 its CuTe kernel, which the extra `cutedsl` brings; without the extra it raises there."""
    from liger_kernel.ops import LigerFusedLinearScaledCrossEntropyFunction

    def forward(problem: LinearProblem) -> Result:
        loss_T, entropy_T = LigerFusedLinearScaledCrossEntropyFunction.apply(
            problem.hidden_TH, problem.weight_VH, problem.targets_T, 1.0, IGNORED, 1, True)
        return by_autograd(loss_T, problem, entropy_T)
    return forward


def _grpo(_: torch.device) -> Callable[[LogitsProblem], Result]:
    from liger_kernel.transformers.grpo_loss import triton_grpo_loss

    def forward(problem: LogitsProblem) -> Result:
        advantages_1 = problem.one[None] * problem.advantage
        loss_1T, _, _ = triton_grpo_loss(
            problem.padded_1T1V, problem.old_T[None], problem.ref_T[None], problem.targets_T[None], advantages_1,
            temperature=1.0, beta=KL_COEF, eps_low=CLIP, eps_high=CLIP, inplace=True, loss_type="grpo", reduce=False)

        def gradients() -> tuple[torch.Tensor, ...]:
            (gradient_1T1V,) = torch.autograd.grad(loss_1T, problem.padded_1T1V, problem.ones_T[None])
            return (gradient_1T1V[0, :-1],)
        return Result(loss_1T[0], None, gradients)
    return forward


def peers() -> list[Peer]:
    return [
        Peer(name="Liger vocab-parallel CE", package="liger-kernel", operation="logits", computes="NLL; TP",
             collectives=(Collective("all-reduce", 4),) * 3, load=_logits),
        Peer(name="Liger linear CE", package="liger-kernel", operation="linear", computes="sum of NLL",
             gradient_in_forward=True, load=_linear_sum),
        Peer(name="Liger scaled linear CE", package="liger-kernel", operation="linear",
             computes="NLL, entropy; temperature, TP", load=_linear_scaled),
        Peer(name="Liger GRPO", package="liger-kernel", operation="grpo",
             computes="GRPO; padded sequences, no TP, no entropy", overwrites=True, load=_grpo),
    ]

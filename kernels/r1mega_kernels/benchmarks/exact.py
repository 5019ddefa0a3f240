"""The truth in fp64, for the rows that there is room for, and how far a result is from it.

Shapes: R rows looked at, V vocabulary, H hidden, C columns at a time.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from r1mega_kernels.benchmarks.peer import Operation, Result
from r1mega_kernels.benchmarks.problem import LogitsProblem, Problem

ALL_ROWS = 256
"""So many rows or fewer are all looked at, and then also what is a sum over rows."""
SOME_ROWS = 32
COLUMNS = 1 << 13

CLIP, KL_COEF = 0.2, 0.04
"""Of the GRPO loss that is compared: the same width on both sides, k3."""

GATES = {"logits": {"loss": 2e-3, "entropy": 2e-3, "gradient": 0.02, "d_hidden": 0.02, "d_weight": 0.02}}
GATES["grpo"] = GATES["logits"]
GATES["linear"] = {"loss": 0.15, "entropy": 0.15, "gradient": 0.05, "d_hidden": 0.05, "d_weight": 0.05}
"""Beyond these a peer computes something else and is not timed. Logits rounded to bf16 cost up to 6e-2 in log-prob."""


class Exact(NamedTuple):
    rows_R: Tensor
    loss_R: Tensor
    entropy_R: Tensor
    gradients: tuple[Tensor, ...]
    """[R, V] by the logits; or [R, H] by the hidden states, and with all rows [V, H] by the weight, kept in fp32."""


def exact(operation: Operation, problem: Problem) -> Exact:
    rows_R = looked_at(problem.tokens, problem.device)
    if isinstance(problem, LogitsProblem):
        logits_RV = problem.pristine_TV[rows_R].double().requires_grad_()
        loss_R, entropy_R = _loss(operation, problem, logits_RV, rows_R)
        return Exact(rows_R, loss_R.detach(), entropy_R, torch.autograd.grad(loss_R.sum(), logits_RV))
    weight_VH, hidden_RH = problem.weight_VH.detach(), problem.hidden_TH.detach()[rows_R].double()
    logits_RV = torch.cat([hidden_RH @ part_CH.double().T for part_CH in weight_VH.split(COLUMNS)], dim=1)
    logits_RV.requires_grad_()
    loss_R, entropy_R = _loss(operation, problem, logits_RV, rows_R)
    (dz_RV,) = torch.autograd.grad(loss_R.sum(), logits_RV)
    d_hidden_RH = torch.zeros_like(hidden_RH)
    for dz_RC, part_CH in zip(dz_RV.split(COLUMNS, dim=1), weight_VH.split(COLUMNS), strict=True):
        d_hidden_RH += dz_RC @ part_CH.double()
    gradients = (d_hidden_RH,)
    if len(rows_R) == problem.tokens:
        parts = [(dz_RC.T @ hidden_RH).float() for dz_RC in dz_RV.split(COLUMNS, dim=1)]
        gradients += (torch.cat(parts),)
    return Exact(rows_R, loss_R.detach(), entropy_R, gradients)


def looked_at(tokens: int, device: torch.device) -> Tensor:
    """All rows, or some from the first to the last."""
    count = tokens if tokens <= ALL_ROWS else SOME_ROWS
    return torch.linspace(0, tokens - 1, count, dtype=torch.float64, device=device).round().long()


def _loss(operation: Operation, problem: Problem, logits_RV: Tensor, rows_R: Tensor) -> tuple[Tensor, Tensor]:
    """The loss of each row, and its entropy without a gradient."""
    log_p_RV = logits_RV.log_softmax(1)
    entropy_R = -(log_p_RV.detach().exp() * log_p_RV.detach()).sum(1)
    log_p_R = log_p_RV.gather(1, problem.targets_T[rows_R, None])[:, 0]
    if operation != "grpo":
        return -log_p_R, entropy_R
    return grpo_loss_by_hand(log_p_R, problem.old_T[rows_R].double(), problem.ref_T[rows_R].double(),
                             problem.advantage), entropy_R


def grpo_loss_by_hand(log_p_T: Tensor, old_T: Tensor, ref_T: Tensor, advantage: float) -> Tensor:
    """-min(rho A, clip(rho) A) + KL_COEF k3, as the papers write it."""
    ratio_T = (log_p_T - old_T).exp()
    policy_T = torch.minimum(ratio_T * advantage, ratio_T.clamp(1 - CLIP, 1 + CLIP) * advantage)
    return -policy_T + KL_COEF * ((ref_T - log_p_T).exp() - (ref_T - log_p_T) - 1)


def errors(truth: Exact, result: Result, gradients: tuple[Tensor, ...]) -> dict[str, float]:
    """Largest absolute error of loss and entropy; of gradients the norm of the error relative to the truth's, where
    the truth is rounded to the gradient's own type first."""
    found = {}
    all_rows = len(gradients[0]) == len(truth.rows_R)
    if result.loss.ndim:
        found["loss"] = (result.loss.detach()[truth.rows_R].double() - truth.loss_R).abs().max().item()
    elif all_rows:  # the mean over tokens, so that its size is that of a token's loss
        found["loss"] = abs(result.loss.item() / len(truth.loss_R) - truth.loss_R.mean().item())
    if result.entropy is not None:
        found["entropy"] = (result.entropy.detach()[truth.rows_R].double() - truth.entropy_R).abs().max().item()
    names = ("gradient",) if len(gradients) == 1 else ("d_hidden", "d_weight")
    for name, gradient, expected in zip(names, gradients, truth.gradients, strict=False):
        shown = gradient if name == "d_weight" else gradient[truth.rows_R]
        found[name] = _relative(shown, expected)
    return found


def _relative(values: Tensor, expected: Tensor) -> float:
    """In parts: a gradient of the weight in fp64 would be larger than the weight by far."""
    difference, norm = 0.0, 0.0
    for part, expected_part in zip(values.split(COLUMNS), expected.split(COLUMNS), strict=True):
        rounded = expected_part.to(values.dtype).double()
        difference += (part.double() - rounded).square().sum().item()
        norm += expected_part.double().square().sum().item()
    return (difference / norm) ** 0.5


def beyond_gate(operation: Operation, found: dict[str, float]) -> str | None:
    """What is further off than rounding explains; None if nothing is."""
    wrong = [f"{name} off by {value:.3g}" for name, value in found.items() if not value <= GATES[operation][name]]
    return ", ".join(wrong) or None

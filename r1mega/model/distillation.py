"""Learning a teacher's distribution: cross-entropy mixed with KL(teacher || student) over the whole vocabulary
(arXiv 1503.02531, section 2), from the last hidden states of both, a chunk of the rows at a time.

The loss of a token with weight w, coef c and temperature t, where p are the student's probabilities and q the
teacher's, and p_t, q_t those of logits divided by t; and its gradient by the student's logits:

    w ((1 - c) (-log p(target)) + c t^2 KL(q_t || p_t))          w ((1 - c) (p - 1_target) + c t (p_t - q_t))

Its gradient is made in the forward pass, like that of the other losses of the head. The vocabulary stays split between
tensor-parallel ranks, and the teacher's logits live no longer than a chunk's.
"""

# Shapes: T tokens of a pack, S of them on this rank (fewer if sequence parallel), R rows of a chunk, V columns of the
# vocabulary held here, H hidden of the student, G of the teacher.

from dataclasses import dataclass

import torch
import torch.distributed as dist
from r1mega_kernels import LinearOptions, LossTokens
from r1mega_kernels.gemm import accumulate, project
from torch import Tensor
from torch.autograd.function import once_differentiable

PADDING = -1e30  # the logit of columns beyond the vocabulary: its probability is 0, and 0 times it is 0
COPIES = 8  # of a chunk's logits in fp32 that are alive at once, gradients and both distributions among them


@dataclass(frozen=True, slots=True)
class Teaching:
    """What the head minimises where there is a teacher."""

    weights_T: Tensor
    hidden_SG: Tensor
    """The teacher's last hidden states of the same pack, cut over ranks like the student's."""
    weight_VG: Tensor
    """The teacher's head, its vocabulary cut like the student's."""
    coef: float
    temperature: float

    record_names = ("kl",)


def distillation_loss(
    hidden_SH: Tensor, weight_VH: Tensor, targets_T: Tensor, teaching: Teaching, options: LinearOptions, *,
    main_grad: Tensor | None = None,
) -> LossTokens:
    """The losses of all targets but the ignored; `records` has "kl", unweighted. Options are as for `linear_loss`, and
    so is the gradient: losses must be summed up, and a `main_grad` is added to when this is called."""
    loss_T, log_probs_T, entropy_T, kl_T = _Distillation.apply(
        hidden_SH, weight_VH, targets_T, teaching, options, main_grad)
    return LossTokens(loss_T, log_probs_T, entropy_T, {"kl": kl_T})


class _Distillation(torch.autograd.Function):
    @staticmethod
    def forward(ctx, hidden_SH, weight_VH, targets_T, teaching, options, main_grad):
        hidden_TH, teacher_TG = _gathered(hidden_SH, options), _gathered(teaching.hidden_SG, options)
        dtype = torch.promote_types(weight_VH.dtype, torch.float32)
        outputs_4T = hidden_TH.new_zeros(4, len(targets_T), dtype=dtype)
        d_hidden_TH = torch.zeros_like(hidden_TH)
        d_weight_VH = torch.zeros_like(weight_VH, dtype=dtype) if main_grad is None else main_grad
        counted = (targets_T != options.ignore_index).nonzero()[:, 0]
        step = max(1, options.max_logits_bytes // (COPIES * dtype.itemsize * len(weight_VH)))
        for rows in counted.split(step) if len(counted) else ():
            student_RV = _logits(hidden_TH[rows], weight_VH, options, dtype)
            teacher_RV = _logits(teacher_TG[rows], teaching.weight_VG, options, dtype)
            outputs_4R, gradient_RV = _terms(student_RV, teacher_RV, targets_T[rows], teaching.weights_T[rows],
                                             teaching, options)
            outputs_4T[:, rows] = outputs_4R
            gradient_RV = gradient_RV.to(weight_VH.dtype)
            d_hidden_TH[rows] = gradient_RV @ weight_VH
            if ctx.needs_input_grad[1]:
                accumulate(d_weight_VH, gradient_RV, hidden_TH[rows])
        ctx.has_main_grad = main_grad is not None
        ctx.gradients = _reduced(d_hidden_TH, options), None if ctx.has_main_grad else d_weight_VH.to(weight_VH.dtype)
        loss_T, *detached = outputs_4T
        ctx.mark_non_differentiable(*detached)
        return loss_T, *detached

    @staticmethod
    @once_differentiable
    def backward(ctx, up_T, *_):
        if ctx.gradients is None:
            raise RuntimeError("the gradients of distillation_loss were handed out before; they are kept for one "
                               "backward")
        (d_hidden_SH, d_weight_VH), ctx.gradients = ctx.gradients, None
        expected = torch.ones_like(up_T) if ctx.has_main_grad else up_T[:1]
        torch._assert_async((up_T == expected).all(), "distillation_loss: its losses must be summed up, each with the "
                            "same upstream gradient (1 with a main_grad)")
        d_hidden_SH.mul_(up_T[0])
        if d_weight_VH is not None:
            d_weight_VH.mul_(up_T[0])
        return d_hidden_SH, d_weight_VH, None, None, None, None


def _terms(
    student_RV: Tensor, teacher_RV: Tensor, targets_R: Tensor, weights_R: Tensor, teaching: Teaching,
    options: LinearOptions,
) -> tuple[Tensor, Tensor]:
    """[4, R]: loss, log p of the target, entropy and KL; and [R, V]: the loss by the student's logits."""
    coef, temperature = teaching.coef, teaching.temperature
    log_p_RV = _log_softmax(student_RV, options)
    soft_RV = log_p_RV if temperature == 1 else _log_softmax(student_RV / temperature, options)
    log_q_RV = _log_softmax(teacher_RV / temperature, options)
    columns_R = targets_R - _first_column(student_RV, options)
    here_R = (columns_R >= 0) & (columns_R < student_RV.shape[1])
    columns_R = columns_R.where(here_R, 0)
    rows = torch.arange(len(targets_R), device=targets_R.device)
    p_RV, q_RV = log_p_RV.exp(), log_q_RV.exp()
    sums_3R = torch.stack([
        log_p_RV[rows, columns_R] * here_R, -(p_RV * log_p_RV).sum(-1), (q_RV * (log_q_RV - soft_RV)).sum(-1)])
    _all_reduce(sums_3R, dist.ReduceOp.SUM, options)
    log_probs_R, _, kl_R = sums_3R
    weights_R = weights_R.to(student_RV.dtype)
    loss_R = weights_R * (-(1 - coef) * log_probs_R + coef * temperature**2 * kl_R)
    p_RV[rows, columns_R] -= here_R.to(p_RV.dtype)
    gradient_RV = p_RV.mul_(1 - coef).add_(soft_RV.exp() - q_RV, alpha=coef * temperature)
    return torch.stack([loss_R, *sums_3R]), gradient_RV.mul_(weights_R[:, None])


def _logits(hidden_RH: Tensor, weight_VH: Tensor, options: LinearOptions, dtype: torch.dtype) -> Tensor:
    """[R, V], those of padding columns replaced; the student's and the teacher's alike."""
    logits_RV = project(hidden_RH, weight_VH, options.fp32_logits).to(dtype)
    real = options.vocab_size - _first_column(logits_RV, options)
    if real < logits_RV.shape[1]:
        logits_RV[:, max(0, real):] = PADDING
    return logits_RV


def _log_softmax(logits_RV: Tensor, options: LinearOptions) -> Tensor:
    """Over the vocabulary of all ranks."""
    top_R = logits_RV.max(-1).values
    _all_reduce(top_R, dist.ReduceOp.MAX, options)
    sums_R = (logits_RV - top_R[:, None]).exp_().sum(-1)
    _all_reduce(sums_R, dist.ReduceOp.SUM, options)
    return logits_RV - (top_R + sums_R.log())[:, None]


def _first_column(logits_RV: Tensor, options: LinearOptions) -> int:
    return 0 if options.ranks == 1 else options.group.rank() * logits_RV.shape[1]


def _all_reduce(tensor: Tensor, operation: dist.ReduceOp, options: LinearOptions) -> None:
    if options.ranks > 1:
        dist.all_reduce(tensor, operation, group=options.group)


def _gathered(hidden_SH: Tensor, options: LinearOptions) -> Tensor:
    """The rows of all ranks, [T, H]."""
    if options.ranks == 1 or not options.sequence_parallel:
        return hidden_SH
    hidden_TH = hidden_SH.new_empty(options.ranks * len(hidden_SH), hidden_SH.shape[1])
    dist.all_gather_into_tensor(hidden_TH, hidden_SH.contiguous(), group=options.group)
    return hidden_TH


def _reduced(d_hidden_TH: Tensor, options: LinearOptions) -> Tensor:
    """The sum over the ranks, each of which saw a part of the vocabulary: [S, H]."""
    if options.ranks == 1:
        return d_hidden_TH
    if not options.sequence_parallel:
        dist.all_reduce(d_hidden_TH, group=options.group)
        return d_hidden_TH
    d_hidden_SH = d_hidden_TH.new_empty(len(d_hidden_TH) // options.ranks, d_hidden_TH.shape[1])
    dist.reduce_scatter_tensor(d_hidden_SH, d_hidden_TH, group=options.group)
    return d_hidden_SH

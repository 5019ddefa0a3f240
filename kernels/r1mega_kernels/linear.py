"""`log_prob`, and losses fused with it, from hidden states and the head's weight: the logits come and go in chunks.

Rows that do not count are left out first: prompt and padding cost nothing. What is left is cut into chunks whose logits
fit a byte budget. Two ways through:

    linear_log_prob    chunks are computed again in the backward pass (unless one chunk is all: then it is kept)
    linear_loss        the gradient is made in the forward pass, chunk by chunk, and nothing is computed twice

With the vocabulary split between ranks, the gradient of the hidden states is added up over them, once.

Shapes: T rows, S rows on this rank (T, or T / ranks if sequence parallel), R rows of a chunk, V columns held here,
H hidden.
"""

from dataclasses import dataclass, replace
from typing import NamedTuple

import torch
import torch.distributed as dist
from torch import Tensor
from torch.autograd.function import once_differentiable

from r1mega_kernels.backend import Options, backend, check_sizes
from r1mega_kernels.gemm import accumulate, project
from r1mega_kernels.log_prob import LogProb
from r1mega_kernels.token_loss import LossTokens, TokenLoss, TokenTerms


@dataclass(frozen=True, slots=True, kw_only=True)
class LinearOptions(Options):
    """Options of `log_prob`, and what comes with the matrix product."""

    fp32_logits: bool = False
    """Keep the product's fp32 instead of rounding the logits to the type of the weight."""
    max_logits_bytes: int = 1 << 30
    """What a chunk needs beside inputs and results (logits, their gradient where it has a type of its own, copies of
    the rows that count) takes no more than this, but a row is the least. Every chunk adds to the weight's gradient: a
    budget below 4,096 rows costs time."""
    sequence_parallel: bool = False
    """Each rank of `group` brings 1 / ranks of the rows, in rank order; targets and results are of all rows."""


def linear_log_prob(
    hidden_SH: Tensor, weight_VH: Tensor, targets_T: Tensor, options: LinearOptions, *, main_grad: Tensor | None = None
) -> LogProb:
    """`log_prob(hidden @ weight.T, targets)`, [T] each, differentiable once by hidden states and weight.

    hidden [S, H] and weight [V, H] (this rank's rows of it) are of one type; the result is fp32 (fp64 from fp64).
    Targets, ignored ones, padding and ranks are as for `log_prob`; ignored rows are never multiplied.
    main_grad [V, H]: the weight's gradient is added to it, in its type, and the weight itself gets none.

    Finding the rows that count waits for the GPU once. Raises ValueError if shapes, types or sizes do not fit.
    """
    _check(hidden_SH, weight_VH, targets_T, options, main_grad)
    return LogProb(*_LinearLogProb.apply(hidden_SH, weight_VH, targets_T, options, main_grad))


def linear_loss(
    hidden_SH: Tensor, weight_VH: Tensor, targets_T: Tensor, token_loss: TokenLoss, options: LinearOptions, *,
    main_grad: Tensor | None = None,
) -> LossTokens:
    """`token_loss` of each target, as `linear_log_prob` otherwise; the gradients are made in the forward pass.

    So they are those of the sum of the losses. With another upstream gradient, which has to be the same for every token
    (and 1 with a `main_grad`, which has got its share already), the backward pass raises, or multiplies.
    A `main_grad` is added to when this is called, once a call: never call it again to recompute an activation.
    """
    _check(hidden_SH, weight_VH, targets_T, options, main_grad)
    on = torch.is_grad_enabled()
    wanted = _Wanted(on and hidden_SH.requires_grad, on and weight_VH.requires_grad, main_grad)
    loss, log_probs, entropy, *records = _LinearLoss.apply(
        hidden_SH, weight_VH, targets_T, token_loss, options, wanted)
    return LossTokens(loss, log_probs, entropy, dict(zip(token_loss.record_names, records, strict=True)))


def _check(
    hidden_SH: Tensor, weight_VH: Tensor, targets_T: Tensor, options: LinearOptions, main_grad: Tensor | None
) -> None:
    rows = len(targets_T) // options.ranks if options.sequence_parallel else len(targets_T)
    if hidden_SH.ndim != 2 or weight_VH.ndim != 2 or targets_T.ndim != 1 or hidden_SH.shape[1] != weight_VH.shape[1]:
        raise ValueError(f"hidden {list(hidden_SH.shape)}, weight {list(weight_VH.shape)} and targets "
                         f"{list(targets_T.shape)} must be [S, H], [V, H] and [T]")
    if len(hidden_SH) != rows or (options.sequence_parallel and len(targets_T) % options.ranks):
        raise ValueError(f"{len(hidden_SH)} rows of hidden states do not fit {len(targets_T)} targets on "
                         f"{options.ranks} ranks with sequence_parallel={options.sequence_parallel}")
    if hidden_SH.dtype != weight_VH.dtype or not hidden_SH.is_floating_point() or targets_T.is_floating_point():
        raise ValueError(f"hidden states are {hidden_SH.dtype}, weight {weight_VH.dtype}, targets {targets_T.dtype}: "
                         "two floats of one type and integers needed")
    if main_grad is not None and main_grad.shape != weight_VH.shape:
        raise ValueError(f"main_grad {list(main_grad.shape)} must have the shape of the weight {list(weight_VH.shape)}")
    check_sizes(len(weight_VH), options)
    backend(options.implementation, weight_VH)


class _LinearLogProb(torch.autograd.Function):
    @staticmethod
    def forward(ctx, hidden_SH, weight_VH, targets_T, options, main_grad):
        head = _Head(hidden_SH, weight_VH, targets_T, options)
        outputs_2T = head.zeros(2, len(targets_T))
        ctx.saved, ctx.logits_RV = [], None
        for chunk in head.chunks:
            logits_RV = head.logits(chunk)
            log_probs_R, entropy_R, saved = head.forward(logits_RV, chunk)
            outputs_2T[:, chunk.rows] = torch.stack([log_probs_R, entropy_R])
            ctx.saved.append(saved)
            ctx.logits_RV = logits_RV if len(head.chunks) == 1 else None  # all of them fit the budget, so they are kept
            del logits_RV  # before the next chunk's are made
        ctx.save_for_backward(hidden_SH, weight_VH, targets_T)
        ctx.chunks, ctx.options, ctx.main_grad = head.chunks, options, main_grad
        ctx.set_materialize_grads(False)
        return outputs_2T[0], outputs_2T[1]

    @staticmethod
    @once_differentiable
    def backward(ctx, c_T, e_T):
        hidden_SH, weight_VH, targets_T = ctx.saved_tensors
        head = _Head(hidden_SH, weight_VH, targets_T, ctx.options, ctx.chunks)
        gradients = _Gradients(head, _Wanted(*ctx.needs_input_grad[:2], ctx.main_grad))
        c_T = head.zeros(len(targets_T)) if c_T is None else c_T
        for chunk, saved in zip(head.chunks, ctx.saved, strict=True):
            logits_RV = head.logits(chunk) if ctx.logits_RV is None else ctx.logits_RV
            upstream = c_T[chunk.rows], None if e_T is None else e_T[chunk.rows]
            gradients.add(chunk, logits_RV, saved, upstream)
            del logits_RV
        ctx.logits_RV = None  # overwritten; a second backward pass would compute them again
        return *gradients.finish(), None, None, None


class _LinearLoss(torch.autograd.Function):
    @staticmethod
    def forward(ctx, hidden_SH, weight_VH, targets_T, token_loss, options, wanted):
        head = _Head(hidden_SH, weight_VH, targets_T, options)
        gradients = _Gradients(head, wanted)
        outputs_OT = head.zeros(3 + len(token_loss.record_names), len(targets_T))
        known = _all_terms(head, token_loss) if token_loss.needs_all_rows and len(head.chunks) > 1 else None
        for chunk in head.chunks:
            logits_RV = head.logits(chunk)
            log_probs_R, entropy_R, saved = head.forward(logits_RV, chunk)
            terms = token_loss(log_probs_R, entropy_R, chunk.rows) if known is None else _part(known, chunk.part)
            records = [terms.records[name] for name in token_loss.record_names]
            outputs_OT[:, chunk.rows] = torch.stack([terms.loss, log_probs_R, entropy_R, *records])
            if wanted.of_hidden or wanted.of_weight:
                gradients.add(chunk, logits_RV, saved, (terms.d_log_probs, terms.d_entropy))
            del logits_RV
        ctx.gradients, ctx.has_main_grad = gradients.finish(), wanted.main_grad is not None
        loss_T, *detached = outputs_OT
        ctx.mark_non_differentiable(*detached)
        return loss_T, *detached

    @staticmethod
    @once_differentiable
    def backward(ctx, up_T, *_):
        if ctx.gradients is None:
            raise RuntimeError("the gradients of linear_loss were handed out before; they are kept for one backward")
        (d_hidden_SH, d_weight_VH), ctx.gradients = ctx.gradients, None
        if len(up_T):
            expected = torch.ones_like(up_T) if ctx.has_main_grad else up_T[:1]
            torch._assert_async(
                (up_T == expected).all(), "linear_loss: its losses must be summed up, each with the same upstream "
                "gradient (1 with a main_grad); weigh tokens in the loss itself")
            for gradient in (d_hidden_SH, d_weight_VH):
                if gradient is not None:
                    gradient.mul_(up_T[0])
        return d_hidden_SH, d_weight_VH, None, None, None, None


def _all_terms(head: "_Head", token_loss: TokenLoss) -> TokenTerms:
    """The terms of all rows that count, for losses that look across chunks: costs the logits once more."""
    passes = [head.forward(head.logits(chunk), chunk)[:2] for chunk in head.chunks]
    log_probs_R, entropy_R = (torch.cat(values) for values in zip(*passes, strict=True))
    return token_loss(log_probs_R, entropy_R, head.counted)


def _part(terms: TokenTerms, part: slice) -> TokenTerms:
    d_entropy = None if terms.d_entropy is None else terms.d_entropy[part]
    records = {name: values[part] for name, values in terms.records.items()}
    return TokenTerms(terms.loss[part], terms.d_log_probs[part], d_entropy, records)


class _Chunk(NamedTuple):
    rows: slice | Tensor  # which of the T
    part: slice  # which of those that count


class _Head:
    """Hidden states and weight, and the rows that count, in chunks."""

    def __init__(
        self, hidden_SH: Tensor, weight_VH: Tensor, targets_T: Tensor, options: LinearOptions,
        chunks: list[_Chunk] | None = None,
    ):
        self.weight_VH, self.targets_T, self.options = weight_VH, targets_T, options
        self.hidden_TH = _gathered(hidden_SH, options) if options.sequence_parallel else hidden_SH
        self.backend = backend(options.implementation, weight_VH)
        self.result_type = torch.promote_types(weight_VH.dtype, torch.float32)
        self.logits_type = self.result_type if options.fp32_logits else weight_VH.dtype
        self.ignores = options.ignore_index is not None
        # Rows that are ignored never come to the backend.
        self.inner = replace(options, ignore_index=None)
        self.counted: slice | Tensor = slice(0, len(targets_T))
        if chunks is None and self.ignores:
            self.counted = (targets_T != options.ignore_index).nonzero()[:, 0]
        self.chunks = self._chunks() if chunks is None else chunks

    def _chunks(self) -> list[_Chunk]:
        count = len(self.counted) if isinstance(self.counted, Tensor) else len(self.targets_T)
        same_type = self.logits_type == self.weight_VH.dtype  # then the gradient goes where the logits were
        bytes_a_logit = self.logits_type.itemsize + (0 if same_type else self.weight_VH.dtype.itemsize)
        rows_are_copied = isinstance(self.counted, Tensor)
        bytes_a_copy = self.hidden_TH.shape[1] * self.hidden_TH.dtype.itemsize if rows_are_copied else 0
        step = max(1, self.options.max_logits_bytes // (bytes_a_logit * len(self.weight_VH) + bytes_a_copy))
        parts = [slice(begin, min(begin + step, count)) for begin in range(0, count, step)]
        return [_Chunk(self.counted[part] if isinstance(self.counted, Tensor) else part, part) for part in parts]

    def zeros(self, *shape: int) -> Tensor:
        return self.hidden_TH.new_zeros(shape, dtype=self.result_type)

    def logits(self, chunk: _Chunk) -> Tensor:
        return project(self.hidden_TH[chunk.rows], self.weight_VH, self.options.fp32_logits)

    def forward(self, logits_RV: Tensor, chunk: _Chunk) -> tuple[Tensor, Tensor, tuple[Tensor, ...]]:
        return self.backend.forward(logits_RV, self.targets_T[chunk.rows], self.inner)


class _Wanted(NamedTuple):
    of_hidden: bool
    of_weight: bool
    main_grad: Tensor | None


class _Gradients:
    """Those of hidden states and weight, added up chunk by chunk."""

    def __init__(self, head: _Head, wanted: _Wanted):
        self.head, (self.of_hidden, self.of_weight, self.main_grad) = head, wanted
        self.d_hidden_TH = torch.zeros_like(head.hidden_TH) if self.of_hidden else None
        self.d_weight_VH = self.main_grad
        if self.of_weight and self.main_grad is None:  # several chunks are added up in fp32
            dtype = head.weight_VH.dtype if len(head.chunks) <= 1 else head.result_type
            self.d_weight_VH = torch.zeros_like(head.weight_VH, dtype=dtype)

    def add(
        self, chunk: _Chunk, logits_RV: Tensor, saved: tuple[Tensor, ...], upstream: tuple[Tensor, Tensor | None]
    ) -> None:
        """A chunk's share; its logits are overwritten."""
        head = self.head
        same_type = logits_RV.dtype == head.weight_VH.dtype
        gradient_RV = logits_RV if same_type else torch.empty_like(logits_RV, dtype=head.weight_VH.dtype)
        head.backend.backward(gradient_RV, logits_RV, saved, upstream, head.inner)
        if self.of_hidden and isinstance(chunk.rows, slice):
            torch.mm(gradient_RV, head.weight_VH, out=self.d_hidden_TH[chunk.rows])
        elif self.of_hidden:
            self.d_hidden_TH[chunk.rows] = gradient_RV @ head.weight_VH
        if self.of_weight:
            accumulate(self.d_weight_VH, gradient_RV, head.hidden_TH[chunk.rows])

    def finish(self) -> tuple[Tensor | None, Tensor | None]:
        """Added up over the ranks; the weight's is None where `main_grad` has it."""
        d_weight_VH = None
        if self.of_weight and self.main_grad is None:
            d_weight_VH = self.d_weight_VH.to(self.head.weight_VH.dtype)
        return _reduced(self.d_hidden_TH, self.head.options), d_weight_VH


def _gathered(hidden_SH: Tensor, options: LinearOptions) -> Tensor:
    """The rows of all ranks, [T, H]."""
    if options.ranks == 1:
        return hidden_SH
    hidden_TH = hidden_SH.new_empty(options.ranks * len(hidden_SH), hidden_SH.shape[1])
    dist.all_gather_into_tensor(hidden_TH, hidden_SH.contiguous(), group=options.group)
    return hidden_TH


def _reduced(d_hidden_TH: Tensor | None, options: LinearOptions) -> Tensor | None:
    """The sum over the ranks, each of which saw a part of the vocabulary: [S, H]."""
    if d_hidden_TH is None or options.ranks == 1:
        return d_hidden_TH
    if not options.sequence_parallel:
        dist.all_reduce(d_hidden_TH, group=options.group)
        return d_hidden_TH
    d_hidden_SH = d_hidden_TH.new_empty(len(d_hidden_TH) // options.ranks, d_hidden_TH.shape[1])
    dist.reduce_scatter_tensor(d_hidden_SH, d_hidden_TH, group=options.group)
    return d_hidden_SH

"""Log-probabilities of given tokens, and the entropy of the distribution they were drawn from.

With m = max z over the true vocabulary, d = (z - m) / temperature, s = sum e^d, b = sum d e^d:

    log p = d_target - log s      never above 0
    H     = log s - b / s         the shifted form; never below 0

    dL/dz_j = [c (1{j = target} - p_j) - e p_j (log p_j + H)] / temperature,  c = dL/dlog p, e = dL/dH

Ranks that hold a slice of the vocabulary each exchange (m, s, z_target, b) once, forward; nothing backward.

Shapes: T rows, V columns held here.
"""

from typing import NamedTuple

import torch
import torch.distributed as dist
from torch import Tensor
from torch.autograd.function import once_differentiable

from r1mega_kernels.backend import Implementation, Options, backend, check


class LogProb(NamedTuple):
    log_probs: Tensor  # [...] fp32, or fp64 from fp64 logits
    entropy: Tensor  # [...] the same


def log_prob(
    logits: Tensor,
    targets: Tensor,
    *,
    temperature: float = 1.0,
    group: dist.ProcessGroup | None = None,
    vocab_size: int | None = None,
    ignore_index: int | None = None,
    implementation: Implementation = "reference",
    inplace_backward: bool = False,
) -> LogProb:
    """Log-prob of each target and entropy of each row, differentiable once with respect to `logits`.

    logits [..., V]: any float type; computed in fp32 (fp64 for fp64). With a `group` of R ranks, rank r holds
    columns rV to (r + 1)V - 1 of the vocabulary, and all ranks get the same result; None: V is all there is.
    targets [...]: integers, indices into the whole vocabulary, the same on all ranks of the group.
    vocab_size: the true size; columns from there on are padding: no probability, no gradient. Default R * V.
    ignore_index: rows with this target give exactly 0, 0 and no gradient, whatever their logits.
    implementation: "reference" is plain PyTorch, on any device. "triton" needs a GPU (or Triton's interpreter) and
    logits of at most 32 bits, and raises RuntimeError or ValueError where it has not got them; never a fallback.
    inplace_backward: write the gradient over `logits`, which saves their size in memory. Reading them after the
    backward pass reads the gradient; another operation that saved them for its own backward pass raises there.

    A row whose upstream gradients are 0 has a gradient of exactly 0, even where its logits are NaN. A row's
    result and gradient depend on that row alone, bit for bit: on any number of rows and at any place. -inf
    logits are impossible tokens. NaN and +inf make their own row NaN, as does a target outside the vocabulary
    (finding it out would stop the device). Raises ValueError if shapes, types or sizes do not fit.
    """
    options = Options(temperature=temperature, group=group, vocab_size=vocab_size, ignore_index=ignore_index,
                      implementation=implementation)
    check(logits, targets, options)
    if inplace_backward:
        check_own_memory(logits)
    backend(implementation, logits)  # raises before anything is computed
    log_probs_T, entropy_T = _LogProb.apply(
        logits.reshape(-1, logits.shape[-1]), targets.reshape(-1), options, inplace_backward
    )
    return LogProb(log_probs_T.view(targets.shape), entropy_T.view(targets.shape))


def check_own_memory(logits: Tensor) -> None:
    """Raise ValueError where a gradient cannot be written over the logits."""
    if any(n > 1 and s == 0 for n, s in zip(logits.shape, logits.stride(), strict=True)):
        raise ValueError("inplace_backward=True needs logits of their own memory, and these are expanded")


class _LogProb(torch.autograd.Function):
    @staticmethod
    def forward(ctx, logits_TV, targets_T, options, inplace):
        log_probs_T, entropy_T, saved = backend(options.implementation, logits_TV).forward(
            logits_TV, targets_T, options
        )
        ctx.save_for_backward(logits_TV, *saved)
        ctx.options, ctx.inplace = options, inplace
        ctx.set_materialize_grads(False)
        return log_probs_T, entropy_T

    @staticmethod
    @once_differentiable
    def backward(ctx, c_T, e_T):
        logits_TV, *saved = ctx.saved_tensors
        if c_T is None:
            c_T = logits_TV.new_zeros((), dtype=torch.promote_types(logits_TV.dtype, torch.float32))
            c_T = c_T.expand(len(logits_TV))
        gradient_TV = logits_TV if ctx.inplace else torch.empty_like(logits_TV).contiguous()
        backend(ctx.options.implementation, logits_TV).backward(
            gradient_TV, logits_TV, tuple(saved), (c_T, e_T), ctx.options
        )
        if ctx.inplace:
            torch.autograd.graph.increment_version(logits_TV)  # who else has saved the logits gets an error
        return gradient_TV, None, None, None

"""A loss of tokens fused with `log_prob`: the gradient of the logits is made in the forward pass, over the logits.

Beside the logits there are only some numbers a token. The backward pass has nothing left to do where the upstream
gradient is 1, which is so when the losses are summed up; weights belong into the loss.
"""

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from r1mega_kernels.backend import Options, backend, check
from r1mega_kernels.log_prob import check_own_memory
from r1mega_kernels.token_loss import LossTokens, TokenLoss


def logits_loss(
    logits: Tensor, targets: Tensor, token_loss: TokenLoss, options: Options, *, inplace: bool = False
) -> LossTokens:
    """`token_loss` of each target, differentiable once with respect to `logits`.

    logits [..., V], targets [...]: as for `log_prob`; the T rows of `token_loss` are the targets, flattened.
    inplace: the gradient takes the memory of the logits, which then must not be used for anything else: they are gone
    when this returns. (Where no gradient is wanted the logits stay as they are.)
    """
    check(logits, targets, options)
    if inplace:
        check_own_memory(logits)
    backend(options.implementation, logits)  # raises before anything is computed
    wanted = logits.requires_grad and torch.is_grad_enabled()
    outputs = _LogitsLoss.apply(
        logits.reshape(-1, logits.shape[-1]), targets.reshape(-1), token_loss, options, wanted, inplace)
    loss, log_probs, entropy, *records = (values_T.view(targets.shape) for values_T in outputs)
    return LossTokens(loss, log_probs, entropy, dict(zip(token_loss.record_names, records, strict=True)))


class _LogitsLoss(torch.autograd.Function):
    @staticmethod
    def forward(ctx, logits_TV, targets_T, token_loss, options, wanted, inplace):
        ops = backend(options.implementation, logits_TV)
        log_probs_T, entropy_T, saved = ops.forward(logits_TV, targets_T, options)
        terms = token_loss(log_probs_T, entropy_T, slice(None))
        if wanted:
            gradient_TV = logits_TV if inplace else torch.empty_like(logits_TV).contiguous()
            ops.backward(gradient_TV, logits_TV, saved, (terms.d_log_probs, terms.d_entropy), options)
            if inplace:
                torch.autograd.graph.increment_version(logits_TV)  # who else has saved the logits gets an error
            ctx.gradient_TV, ctx.scale_rows = gradient_TV, ops.scale_rows
        detached = (log_probs_T, entropy_T, *(terms.records[name] for name in token_loss.record_names))
        ctx.mark_non_differentiable(*detached)
        return terms.loss, *detached

    @staticmethod
    @once_differentiable
    def backward(ctx, up_T, *_):
        if ctx.gradient_TV is None:
            raise RuntimeError("the gradient of logits_loss was handed out before; it is kept for one backward pass")
        gradient_TV, ctx.gradient_TV = ctx.gradient_TV, None
        ctx.scale_rows(gradient_TV, up_T)
        return gradient_TV, None, None, None, None, None

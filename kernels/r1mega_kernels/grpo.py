"""The loss of each token under GRPO, with its derivatives written out.

With rho = policy / old policy, a token's loss is weight times

    -importance min(rho A, clip(rho, 1 - clip_low, 1 + clip_high) A) + kl_coef KL - entropy_coef H

Sources: DeepSeekMath (arXiv 2402.03300) equation 3, DeepSeek-R1 (arXiv 2501.12948) equations 1 and 2; a clip width for
each side as in DAPO (arXiv 2503.14476); dual clip, max(., c A) where A < 0, from arXiv 1912.09729; ratios of whole
sequences from GSPO (arXiv 2507.18071) equations 7 and 13: rho = s x policy / stop_gradient(policy) with
s = exp(mean of log(policy / old) over the sequence's trained tokens); importance weights multiply the policy term only.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from r1mega_kernels.backend import Implementation, backend
from r1mega_kernels.bounded_exp import BOUND, bounded_exp
from r1mega_kernels.kl import KlEstimator, kl_derivative, kl_divergence
from r1mega_kernels.token_loss import LossTokens, TokenTerms


@dataclass(frozen=True, slots=True, kw_only=True)
class GrpoOptions:
    """The terms of the loss; see the module."""

    clip_low: float = 0.2
    clip_high: float = 0.2
    dual_clip: float | None = None
    """Above 1: where A < 0, a ratio beyond it costs no more and has no gradient. None: as in the papers of GRPO."""
    kl_coef: float = 0.0
    kl_estimator: KlEstimator = "k3"
    ratio: Literal["token", "sequence"] = "token"
    entropy_coef: float = 0.0

    def __post_init__(self) -> None:
        if not (0 <= self.clip_low <= 1 and self.clip_high >= 0):
            raise ValueError(f"clip_low={self.clip_low} must lie in 0..1 and clip_high={self.clip_high} be 0 or more")
        if self.dual_clip is not None and self.dual_clip <= 1:
            raise ValueError(f"dual_clip={self.dual_clip} must be above 1, or None")


class GrpoTokens(NamedTuple):
    """What the loss needs of T tokens; no gradient flows to any of it."""

    advantages_T: Tensor
    weights_T: Tensor
    """The reduction (see reduction.py). A token of weight 0 plays no part at all, whatever its other fields hold."""
    old_log_probs_T: Tensor | None = None
    """None: the policy itself is the old one; every ratio is 1 and has the gradient of the policy."""
    ref_log_probs_T: Tensor | None = None
    importance_T: Tensor | None = None
    sequence_ids_T: Tensor | None = None
    """Which sequence a token is of, in order, -1 on padding behind them; needed for ratios of sequences."""


class Grpo:
    """GRPO as a loss that can be fused with the head (a TokenLoss). Raises ValueError if an input is missing."""

    record_names = ("ratio", "clipped", "kl")

    def __init__(self, tokens: GrpoTokens, options: GrpoOptions, implementation: Implementation = "reference"):
        if tokens.ref_log_probs_T is None and options.kl_coef > 0:
            raise ValueError(f"kl_coef={options.kl_coef} needs log-probs of the reference; or set it to 0")
        if tokens.sequence_ids_T is None and options.ratio == "sequence":
            raise ValueError("ratio='sequence' needs sequence_ids")
        self.tokens, self.options, self.implementation = tokens, options, implementation
        self.needs_all_rows = options.ratio == "sequence"

    def __call__(self, log_probs_R: Tensor, entropy_R: Tensor, rows: Tensor | slice) -> TokenTerms:
        chosen = GrpoTokens(*(None if values_T is None else values_T[rows] for values_T in self.tokens))
        return _terms_by(self.implementation, log_probs_R)(log_probs_R, entropy_R, chosen, self.options)


def _terms_by(implementation: Implementation, log_probs_R: Tensor) -> Callable[..., TokenTerms]:
    if implementation == "reference":
        return grpo_terms
    backend(implementation, log_probs_R)  # raises where it cannot run on such a tensor
    from r1mega_kernels import grpo_triton

    return grpo_triton.grpo_terms


@torch.no_grad()
def grpo_terms(log_probs_T: Tensor, entropy_T: Tensor, tokens: GrpoTokens, options: GrpoOptions) -> TokenTerms:
    """Loss and derivatives of every token, in the type of `log_probs_T`; records: `ratio`, `clipped` (1 where a clip
    is active: the policy term is a constant), `kl` (0 without a reference).

    At the edge of a clip the gradient remains. Beyond e^20 exponentials go on as straight lines (see bounded_exp), so
    a huge ratio stays finite, and a clipped one has a gradient of exactly 0.
    """
    dtype = log_probs_T.dtype
    weights_T = tokens.weights_T.to(dtype)
    unused_T = weights_T == 0

    def used(values_T: Tensor | None) -> Tensor:
        return (log_probs_T if values_T is None else values_T.to(dtype)).masked_fill(unused_T, 0)

    log_p_T, old_T, advantages_T = used(log_probs_T), used(tokens.old_log_probs_T), used(tokens.advantages_T)
    log_ratio_T = log_p_T - old_T
    if options.ratio == "sequence":
        log_ratio_T = _mean_of_sequence(log_ratio_T, ~unused_T, tokens.sequence_ids_T).masked_fill(unused_T, 0)
    ratio_T = bounded_exp(log_ratio_T)
    low, high = 1 - options.clip_low, 1 + options.clip_high
    negative_T = advantages_T < 0
    clipped_T = ((advantages_T > 0) & (ratio_T > high)) | (negative_T & (ratio_T < low))
    value_T = torch.where(clipped_T, ratio_T.clamp(low, high), ratio_T)
    if options.dual_clip is not None:
        clipped_T |= negative_T & (ratio_T > options.dual_clip)
        value_T = torch.where(negative_T, value_T.clamp(max=options.dual_clip), value_T)
    scale_T = -advantages_T if tokens.importance_T is None else -advantages_T * used(tokens.importance_T)
    loss_T = scale_T * value_T.masked_fill((advantages_T == 0) & value_T.isinf(), 0)  # no 0 times infinity
    # The derivative of bounded_exp. What is clipped is put to 0 before it is multiplied: no 0 times infinity.
    slope_T = scale_T * log_ratio_T.masked_fill(clipped_T, 0).clamp(max=BOUND).exp().masked_fill(clipped_T, 0)

    kl_T = torch.zeros_like(loss_T)
    if tokens.ref_log_probs_T is not None:
        ref_T = used(tokens.ref_log_probs_T)
        kl_T = kl_divergence(log_p_T, ref_T, options.kl_estimator)
        if options.kl_coef > 0:
            loss_T = loss_T + options.kl_coef * kl_T
            slope_T = slope_T + options.kl_coef * kl_derivative(log_p_T, ref_T, options.kl_estimator)
    d_entropy_T = None
    if options.entropy_coef != 0:
        loss_T = loss_T - options.entropy_coef * used(entropy_T)
        d_entropy_T = -options.entropy_coef * weights_T
    records = {"ratio": ratio_T, "clipped": clipped_T.to(dtype), "kl": kl_T}
    return TokenTerms(weights_T * loss_T, weights_T * slope_T, d_entropy_T, {
        name: values_T.masked_fill(unused_T, 0) for name, values_T in records.items()})


def _mean_of_sequence(values_T: Tensor, counted_T: Tensor, sequence_ids_T: Tensor) -> Tensor:
    """At each token the mean over the counted tokens of its sequence. Sums run from a sequence's first token on."""
    own_T = torch.zeros_like(sequence_ids_T)
    own_T[1:] = sequence_ids_T[1:] != sequence_ids_T[:-1]
    place_T = own_T.cumsum(0)  # 0, 1, 2, ... in order of appearance
    lengths_S = torch.zeros_like(place_T).index_add_(0, place_T, torch.ones_like(place_T))  # T at most; rest is empty
    sums_S = torch.segment_reduce(values_T, "sum", lengths=lengths_S, unsafe=True)
    counts_S = torch.zeros_like(place_T).index_add_(0, place_T, counted_T.long())
    return (sums_S / counts_S.clamp(min=1))[place_T]


def grpo_loss(
    log_probs: Tensor, entropy: Tensor, tokens: GrpoTokens, options: GrpoOptions,
    implementation: Implementation = "reference",
) -> LossTokens:
    """GRPO from log-probs and entropies that carry gradients themselves, [T]; for the fused forms see `logits_loss`
    and `linear_loss`."""
    loss_T, *records = _FromLogProbs.apply(log_probs, entropy, Grpo(tokens, options, implementation))
    return LossTokens(loss_T, log_probs.detach(), entropy.detach(), dict(zip(Grpo.record_names, records, strict=True)))


class _FromLogProbs(torch.autograd.Function):
    @staticmethod
    def forward(ctx, log_probs_T, entropy_T, token_loss):
        terms = token_loss(log_probs_T, entropy_T, slice(None))
        ctx.save_for_backward(terms.d_log_probs, terms.d_entropy)
        records = tuple(terms.records[name] for name in token_loss.record_names)
        ctx.mark_non_differentiable(*records)
        return terms.loss, *records

    @staticmethod
    @once_differentiable
    def backward(ctx, up_T, *_):
        d_log_probs_T, d_entropy_T = ctx.saved_tensors
        return up_T * d_log_probs_T, None if d_entropy_T is None else up_T * d_entropy_T, None

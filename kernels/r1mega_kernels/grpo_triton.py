"""The terms of GRPO in Triton: one elementwise kernel, and before it one over sequences where ratios are of these.

What grpo.py computes, in fp32. Where the weight of a token is 0 nothing else of it is loaded. A sequence is added up
by one program, in blocks counted from its own first token: it has the same bits wherever it stands, among whatever.

Shapes: T tokens. As in log_prob_triton, what changes from call to call is listed as do_not_specialize or is a float,
and all pointers are aligned. Which inputs are there, and the estimator of KL, compile anew.
"""

import math

import torch
import triton
import triton.language as tl
from torch import Tensor

from r1mega_kernels.bounded_exp import BOUND
from r1mega_kernels.grpo import GrpoOptions, GrpoTokens
from r1mega_kernels.log_prob_triton import aligned
from r1mega_kernels.token_loss import TokenTerms

BLOCK_TOKENS = 256
BLOCK_SEQUENCE = 1024
"""Tokens of a sequence that are looked at together; the order of its additions is made by this."""

_BOUND: tl.constexpr = tl.constexpr(BOUND)
_E_BOUND: tl.constexpr = tl.constexpr(math.exp(BOUND))


@triton.jit
def _bounded_exp(x):
    """(bounded_exp, its derivative). Comparisons keep NaN, which tl.minimum would not."""
    slope = tl.exp(tl.where(x > _BOUND, _BOUND, x))
    return slope + _E_BOUND * tl.where(x > _BOUND, x - _BOUND, 0.0), slope


@triton.jit
def _kl(log_p, ref, ESTIMATOR: tl.constexpr):
    """(KL, its derivative by log p)."""
    if ESTIMATOR == "k1":
        value = log_p - ref
        slope = tl.full(log_p.shape, 1.0, tl.float32)
    elif ESTIMATOR == "k2":
        slope = log_p - ref
        value = slope * slope / 2
    else:
        # Near 0 e^x - 1 - x by its series, x^2 / 2 (1 + x / 3 (1 + x / 4 (...))): the subtractions would leave nothing.
        x = ref - log_p
        near = tl.abs(x) < 0.5
        small = tl.where(near, x, 0.0)
        series = 1 + small * (1 / 9)
        for n in tl.static_range(8, 2, -1):
            series = 1 + small * (1 / n) * series
        series = small * small / 2 * series
        ratio, e = _bounded_exp(x)
        value = tl.where(near, series, ratio - 1 - x)
        slope = -tl.where(near, small + series, e - 1)
    return value, slope


@triton.jit
def _numbers(pointer, token, used):
    return tl.load(pointer + token, mask=used, other=0).to(tl.float32)


@triton.jit(do_not_specialize=["tokens"])
def _sequence_kernel(log_probs, old, weights, ids, means, tokens, BLOCK: tl.constexpr):
    """means[t] = the mean of log p - log p_old over the tokens with a weight in t's run of equal ids.

    A program a token; those whose token is not the first of its run have nothing to do.
    """
    start = tl.program_id(0)
    own = tl.load(ids + start)
    if (start == 0) | (own != tl.load(ids + start - 1, mask=start > 0, other=0)):
        lanes = tl.arange(0, BLOCK)
        sums = tl.zeros((BLOCK,), tl.float32)
        counts = tl.zeros((BLOCK,), tl.int32)
        end = start
        taken = tl.full((), BLOCK, tl.int32)
        while taken == BLOCK:
            token = end + lanes
            here = tl.load(ids + token, mask=token < tokens, other=0)
            ours = (token < tokens) & (here == own)
            taken = tl.min(tl.where(ours, BLOCK, lanes), axis=0)  # up to the first that is not ours
            inside = lanes < taken
            used = inside & (_numbers(weights, token, inside) != 0)
            log_p = _numbers(log_probs, token, used)
            if old is not None:
                sums += log_p - _numbers(old, token, used)
            else:
                sums += log_p - log_p
            counts += used.to(tl.int32)
            end += taken
        count = tl.maximum(tl.sum(counts, axis=0), 1).to(tl.float32)
        mean = tl.div_rn(tl.sum(sums, axis=0), count)
        for at in range(start, end, BLOCK):
            token = at + lanes
            tl.store(means + token, tl.zeros((BLOCK,), tl.float32) + mean, mask=token < end)


@triton.jit(do_not_specialize=["tokens"])
def _terms_kernel(inputs, outputs, numbers, tokens, ESTIMATOR: tl.constexpr, BLOCK: tl.constexpr):
    """Every token for itself. Of the inputs those that are None are absent; numbers are the options'."""
    log_probs, old, ref, advantages, weights, importance, means, entropies = inputs
    losses, d_log_probs, d_entropies, ratios, clips, kls = outputs
    low, high, dual_clip, kl_coef, entropy_coef = numbers
    token = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    inside = token < tokens
    weight = _numbers(weights, token, inside)
    used = weight != 0
    log_p = _numbers(log_probs, token, used)
    if means is not None:
        log_ratio = _numbers(means, token, used)
    elif old is not None:
        log_ratio = log_p - _numbers(old, token, used)
    else:
        log_ratio = log_p - log_p
    ratio, slope = _bounded_exp(log_ratio)

    advantage = _numbers(advantages, token, used)
    above = (advantage > 0) & (ratio > high)
    below = (advantage < 0) & (ratio < low)
    beyond = (advantage < 0) & (ratio > dual_clip)
    value = tl.where(above, high, tl.where(below, low, ratio))
    value = tl.where((advantage < 0) & (value > dual_clip), dual_clip, value)
    clipped = above | below | beyond
    scale = -advantage
    if importance is not None:
        scale *= _numbers(importance, token, used)
    loss = scale * tl.where((advantage == 0) & (value == float("inf")), 0.0, value)  # no 0 times infinity
    slope = scale * tl.where(clipped, 0.0, slope)

    kl = tl.zeros((BLOCK,), tl.float32)
    if ref is not None:
        kl, kl_slope = _kl(log_p, _numbers(ref, token, used), ESTIMATOR)
        loss += tl.where(kl_coef > 0, kl_coef * kl, 0.0)
        slope += tl.where(kl_coef > 0, kl_coef * kl_slope, 0.0)
    if entropies is not None:
        loss -= entropy_coef * _numbers(entropies, token, used)
        tl.store(d_entropies + token, -entropy_coef * weight, mask=inside)
    tl.store(losses + token, weight * loss, mask=inside)
    tl.store(d_log_probs + token, weight * slope, mask=inside)
    tl.store(ratios + token, tl.where(used, ratio, 0.0), mask=inside)
    tl.store(clips + token, tl.where(clipped, 1.0, 0.0), mask=inside)
    tl.store(kls + token, kl, mask=inside)


def grpo_terms(log_probs_T: Tensor, entropy_T: Tensor, tokens: GrpoTokens, options: GrpoOptions) -> TokenTerms:
    """As grpo.grpo_terms, of fp32 log-probs. Nothing is waited for."""
    _check(log_probs_T, entropy_T, tokens)
    given = GrpoTokens(*(None if values_T is None else aligned(values_T) for values_T in tokens))
    log_probs_T = aligned(log_probs_T)
    entropy_T = aligned(entropy_T) if options.entropy_coef != 0 else None
    loss_T, d_log_probs_T, ratio_T, clipped_T, kl_T = (torch.empty_like(log_probs_T) for _ in range(5))
    d_entropy_T = None if entropy_T is None else torch.empty_like(log_probs_T)
    if log_probs_T.numel():
        with torch.cuda.device_of(log_probs_T):
            means_T = _means(log_probs_T, given) if options.ratio == "sequence" else None
            _launch((log_probs_T, entropy_T, means_T), given, options,
                    (loss_T, d_log_probs_T, d_entropy_T, ratio_T, clipped_T, kl_T))
    return TokenTerms(loss_T, d_log_probs_T, d_entropy_T, {"ratio": ratio_T, "clipped": clipped_T, "kl": kl_T})


def _means(log_probs_T: Tensor, tokens: GrpoTokens) -> Tensor:
    """At each token the mean of its sequence's log ratios."""
    means_T = torch.empty_like(log_probs_T)
    count = log_probs_T.numel()
    _sequence_kernel[(count,)](log_probs_T, tokens.old_log_probs_T, tokens.weights_T, tokens.sequence_ids_T, means_T,
                               count, BLOCK=BLOCK_SEQUENCE)
    return means_T


def _launch(
    policy: tuple[Tensor, Tensor | None, Tensor | None], tokens: GrpoTokens, options: GrpoOptions,
    outputs: tuple[Tensor | None, ...],
) -> None:
    """policy = (log-probs, entropies if they cost something, log ratios of sequences if these are to be used)."""
    log_probs_T, entropy_T, means_T = policy
    dual_clip = math.inf if options.dual_clip is None else options.dual_clip
    numbers = 1 - options.clip_low, 1 + options.clip_high, dual_clip, options.kl_coef, options.entropy_coef
    old_log_probs_T = tokens.old_log_probs_T if means_T is None else None
    count = log_probs_T.numel()
    _terms_kernel[(triton.cdiv(count, BLOCK_TOKENS),)](
        (log_probs_T, old_log_probs_T, tokens.ref_log_probs_T, tokens.advantages_T, tokens.weights_T,
         tokens.importance_T, means_T, entropy_T),
        outputs, tuple(float(number) for number in numbers), count, ESTIMATOR=options.kl_estimator, BLOCK=BLOCK_TOKENS,
    )


def _check(log_probs_T: Tensor, entropy_T: Tensor, tokens: GrpoTokens) -> None:
    if log_probs_T.dtype != torch.float32:
        raise ValueError(f"implementation='triton' computes in fp32, and log-probs are {log_probs_T.dtype}; convert "
                         "them, or use 'reference'")
    for name, values_T in ("entropy", entropy_T), *tokens._asdict().items():
        if values_T is not None and values_T.shape != log_probs_T.shape:
            raise ValueError(f"{name} {list(values_T.shape)} must have the shape of the log-probs, "
                             f"{list(log_probs_T.shape)}")

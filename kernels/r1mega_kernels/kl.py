"""KL(policy || reference), estimated from tokens that the policy sampled."""

from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor

from r1mega_kernels.bounded_exp import BOUND, bounded_expm1

KlEstimator = Literal["k1", "k2", "k3"]


def k1(log_probs: Tensor, ref_log_probs: Tensor) -> Tensor:
    """log(pi / ref): unbiased, may be negative. (Its gradient has mean 0: of no use in a loss.)"""
    return log_probs - ref_log_probs


def k2(log_probs: Tensor, ref_log_probs: Tensor) -> Tensor:
    """log(pi / ref)^2 / 2: biased, never negative."""
    return (log_probs - ref_log_probs).square() / 2


def k3(log_probs: Tensor, ref_log_probs: Tensor) -> Tensor:
    """ref / pi - log(ref / pi) - 1: unbiased, never negative. DeepSeekMath (arXiv 2402.03300) equation 4.

    Where ref / pi is above e^20 the ratio goes on as a straight line (see bounded_exp).
    """
    log_ratio = ref_log_probs - log_probs
    return bounded_expm1(log_ratio) - log_ratio


def kl_divergence(log_probs: Tensor, ref_log_probs: Tensor, estimator: KlEstimator) -> Tensor:
    """The estimate at each token, in the shape of its arguments (http://joschu.net/blog/kl-approx.html)."""
    return _ESTIMATORS[estimator](log_probs, ref_log_probs)


def kl_derivative(log_probs: Tensor, ref_log_probs: Tensor, estimator: KlEstimator) -> Tensor:
    """d kl_divergence / d log_probs, in the same shape."""
    match estimator:
        case "k1":
            return torch.ones_like(log_probs)
        case "k2":
            return log_probs - ref_log_probs
        case "k3":
            return -(ref_log_probs - log_probs).clamp(max=BOUND).expm1()


_ESTIMATORS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {"k1": k1, "k2": k2, "k3": k3}

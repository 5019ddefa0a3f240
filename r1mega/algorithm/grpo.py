"""The loss of each token under GRPO."""

from dataclasses import dataclass

import torch
from torch import Tensor

from r1mega.algorithm.bounded_exp import bounded_exp
from r1mega.algorithm.kl import kl_divergence
from r1mega.config.rl import GrpoConfig


@dataclass(frozen=True, slots=True)
class GrpoTokens:
    """One entry a token, [T]. Only `loss` carries a gradient."""

    loss: Tensor  # to be minimised: -(min of clipped and unclipped) + kl_coef * kl
    ratio: Tensor  # policy / old policy
    clipped: Tensor  # bool: the clip is active, the policy term has no gradient
    kl: Tensor  # estimate of KL(policy || reference); 0 without a reference


def grpo_tokens(
    log_probs_T: Tensor,
    old_log_probs_T: Tensor,
    ref_log_probs_T: Tensor | None,
    advantages_T: Tensor,
    config: GrpoConfig,
) -> GrpoTokens:
    """-[min(rho A, clip(rho, 1 - clip_low, 1 + clip_high) A) - kl_coef KL] at each token, rho = policy / old.

    DeepSeekMath (arXiv 2402.03300) equation 3, DeepSeek-R1 (arXiv 2501.12948) equations 1 and 2; one clip
    width on each side instead of one for both. All arguments are [T] and floating point; only `log_probs_T`
    gets a gradient.

    Where the clip is active (A > 0 and rho above, or A < 0 and rho below; at the edge it is not) the policy
    term is a constant: its gradient is exactly 0 however large rho is. With A < 0 the paper's objective has
    no bound on a large rho; above e^20 it goes on as a straight line (see bounded_exp), so it stays finite.

    Raises ValueError if `kl_coef` is above 0 and there is no reference.
    """
    if ref_log_probs_T is None and config.kl_coef > 0:
        raise ValueError(f"kl_coef={config.kl_coef} needs log-probs of the reference; or set it to 0")
    log_ratio_T = log_probs_T - old_log_probs_T.detach()
    ratio_T = bounded_exp(log_ratio_T.detach())
    low, high = 1 - config.clip_low, 1 + config.clip_high
    clipped_T = ((advantages_T > 0) & (ratio_T > high)) | ((advantages_T < 0) & (ratio_T < low))
    # Clipped tokens leave the graph before the exponential: after it, 0 times an infinite derivative is NaN.
    unclipped_T = bounded_exp(log_ratio_T.masked_fill(clipped_T, 0))
    objective_T = advantages_T * torch.where(clipped_T, ratio_T.clamp(low, high), unclipped_T)

    kl_T = torch.zeros_like(log_probs_T)
    if ref_log_probs_T is not None:
        kl_T = kl_divergence(log_probs_T, ref_log_probs_T.detach(), config.kl_estimator)
    loss_T = -objective_T + config.kl_coef * kl_T if config.kl_coef > 0 else -objective_T
    return GrpoTokens(loss=loss_T, ratio=ratio_T, clipped=clipped_T, kl=kl_T.detach())

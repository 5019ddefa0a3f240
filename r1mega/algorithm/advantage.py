"""Advantages of outputs relative to the other outputs of the same question."""

import torch
from torch import Tensor


def group_advantages(rewards_PG: Tensor, *, normalize_by_std: bool = True, eps: float = 1e-6) -> Tensor:
    """A = (r - mean(r)) / std(r) over each group, [P, G] in the type of `rewards_PG`.

    DeepSeekMath (arXiv 2402.03300) section 4.1.2; DeepSeek-R1 (arXiv 2501.12948) equation 3. The papers do
    not say which std. Ours is the population's (divisor G): the group is all there is to normalise, and
    advantages then have a mean square of 1 whatever G. The sample's (divisor G - 1) would make them 0.968
    times as large at G = 16.

    A group with equal rewards gets exactly 0. `eps` is added to the std, against rewards that differ by
    rounding only. Without `normalize_by_std`: r - mean(r). Computed in fp64.

    rewards_PG: G rewards for each of P questions. Raises ValueError if it is not a matrix of finite numbers.
    """
    if rewards_PG.ndim != 2 or rewards_PG.shape[1] == 0:
        raise ValueError(f"rewards {list(rewards_PG.shape)} must be [questions, outputs of each]")
    if not torch.isfinite(rewards_PG).all():
        raise ValueError("rewards must be finite: one NaN would spoil its whole group")
    rewards = rewards_PG.double()
    centred = rewards - rewards.mean(dim=1, keepdim=True)
    if normalize_by_std:
        centred = centred / (centred.square().mean(dim=1, keepdim=True).sqrt() + eps)
    equal_P1 = (rewards == rewards[:, :1]).all(dim=1, keepdim=True)  # their mean may still be a rounding away
    return centred.masked_fill(equal_P1, 0).to(rewards_PG.dtype)

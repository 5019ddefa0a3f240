"""Exponentials that stay finite."""

import math

import torch
from torch import Tensor

BOUND = 20.0
"""e^20 = 4.9e8: far above any ratio that means something, far below where fp32 ends (e^88)."""


def bounded_exp(x: Tensor) -> Tensor:
    """e^x up to BOUND, its tangent line from there on: no value and no gradient overflows, and neither jumps.

    A plain clamp would stop the gradient just where a token has drifted furthest.
    """
    return x.clamp(max=BOUND).exp() + math.exp(BOUND) * torch.relu(x - BOUND)


def bounded_expm1(x: Tensor) -> Tensor:
    """bounded_exp(x) - 1, exact near 0 where the subtraction would leave nothing but rounding."""
    return x.clamp(max=BOUND).expm1() + math.exp(BOUND) * torch.relu(x - BOUND)

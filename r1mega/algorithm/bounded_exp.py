"""An exponential that stays finite."""

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

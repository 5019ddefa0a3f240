"""Gumbel noise as a function of (seed, position, token id): no state, so no order, batch or layout can change
it.

Drawing with it: argmax over ids of (logit / temperature + noise) is a sample of the softmax (Gumbel-max). The
bits are SplitMix64's (Steele, Lea & Flood 2014): a stream of its own for each (seed, position), whose i-th
number belongs to token id i.
"""

# Shapes: N rows, V token ids.

from torch import Tensor

_SIGN = 1 << 63


def _signed(value: int) -> int:
    """The int64 with these 64 bits."""
    return (value ^ _SIGN) - _SIGN


_GOLDEN = _signed(0x9E3779B97F4A7C15)
_MIX_1 = _signed(0xBF58476D1CE4E5B9)
_MIX_2 = _signed(0x94D049BB133111EB)
_STREAM = _signed(0xD1342543DE82EF95)  # an odd multiplier for positions, unlike the ones above


def gumbel(seeds: Tensor, positions: Tensor, ids: Tensor) -> Tensor:
    """Standard Gumbel noise.

    seeds [N] int64, positions [N] int64, ids [V] int64 -> [N, V] float32 in about (-2.9, 22).
    """
    streams = _mix(_mix(seeds + _GOLDEN) + positions * _STREAM)  # [N]
    bits = _mix(streams[:, None] + (ids + 1) * _GOLDEN)  # [N, V]
    return _from_bits(bits)


def _from_bits(bits: Tensor) -> Tensor:
    """int64 -> float32 Gumbel noise from the top 31 bits, u = (top + 1/2) / 2^31, as -log(-log(1 - u))."""
    # A small u keeps its resolution in float32, and is what makes large noise; the clamp keeps the logarithm
    # finite where u rounds to 1.
    uniform = ((bits >> 33) & 0x7FFFFFFF).float().add_(0.5).mul_(2.0**-31).clamp_(max=1 - 2.0**-24)
    return uniform.neg_().log1p_().neg_().log_().neg_()


def _mix(z: Tensor) -> Tensor:
    """SplitMix64's finaliser, a bijection of 64 bits; `z` is overwritten."""
    z ^= _shifted(z, 30)
    z *= _MIX_1
    z ^= _shifted(z, 27)
    z *= _MIX_2
    z ^= _shifted(z, 31)
    return z


def _shifted(z: Tensor, bits: int) -> Tensor:
    """Logical shift to the right (torch's is arithmetic)."""
    return (z >> bits).bitwise_and_((1 << (64 - bits)) - 1)

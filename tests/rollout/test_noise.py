"""The noise: SplitMix64's published numbers, a Gumbel's moments, and no trace of one stream in another."""

import math

import pytest
import torch

from r1mega.rollout import noise

BIG = 400_000


def correlation(a: torch.Tensor, b: torch.Tensor) -> float:
    return torch.corrcoef(torch.stack([a.flatten().double(), b.flatten().double()]))[0, 1].item()


def test_the_bits_are_splitmix64():
    """First outputs of the reference implementation (https://prng.di.unimi.it/splitmix64.c) from state 0."""
    state = torch.tensor([1, 2, 3]) * noise._GOLDEN
    assert [value % 2**64 for value in noise._mix(state).tolist()] == [
        0xE220A8397B1DCDAF, 0x6E789E6AA1B965F4, 0x06C45D188009454F]


def test_moments_are_a_gumbels():
    """Mean is Euler's constant, variance pi^2/6; five standard errors."""
    x = noise.gumbel(torch.arange(BIG // 1000), torch.tensor([0]), torch.arange(1000)).double()
    assert x.mean().item() == pytest.approx(0.5772157, abs=5 * math.sqrt(1.645 / BIG))
    assert x.var().item() == pytest.approx(math.pi**2 / 6, abs=5 * math.sqrt(4.4 * 1.645**2 / BIG))
    # P(X < x) = exp(-exp(-x)), at ten points.
    for point in torch.linspace(-1.5, 6, 10).tolist():
        p = math.exp(-math.exp(-point))
        assert (x < point).double().mean().item() == pytest.approx(p, abs=5 * math.sqrt(p * (1 - p) / BIG))
    assert x.isfinite().all()


def test_the_extremes_are_finite():
    """Uniform numbers at both ends of the 31 bits, where float32 rounds to 0 or 1."""
    assert noise._from_bits(torch.tensor([0, -1])).tolist() == pytest.approx(
        [math.log(2.0**32), -math.log(24 * math.log(2))], rel=1e-6)


@pytest.mark.parametrize("what", ["seeds", "positions", "ids"])
@pytest.mark.parametrize("step", [1, 2, 1 << 20])
def test_neighbours_are_independent(what, step):
    """Streams of seeds, positions or ids `step` apart are uncorrelated (five standard errors)."""
    count = 400
    seeds = torch.arange(count) * (7 if what == "seeds" else 1)
    positions, ids = torch.full((count,), 3), torch.arange(1000)
    a = noise.gumbel(seeds, positions, ids)
    moved = {"seeds": (seeds + step, positions, ids), "positions": (seeds, positions + step, ids),
             "ids": (seeds, positions, ids + step)}[what]
    overlap = noise.gumbel(*moved)
    assert abs(correlation(a, overlap)) < 5 / math.sqrt(a.numel())


def test_one_number_depends_on_its_seed_position_and_id_alone():
    all_of_it = noise.gumbel(torch.tensor([5, 9]), torch.tensor([0, 4]), torch.arange(300))
    one = noise.gumbel(torch.tensor([9]), torch.tensor([4]), torch.tensor([271]))
    assert one.item() == all_of_it[1, 271].item()

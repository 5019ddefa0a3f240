"""The interval of a mean over problems: by hand, against published Wilson intervals, and by how often it covers."""

import numpy as np
import pytest

from r1mega.algorithm.interval import Z_95, clustered_interval


def test_the_effective_number_by_hand():
    # Means 0.25, 0.75, 0.5, 0.5 of 4 samples: mean 0.5, sum of squares 0.125, SE^2 = 0.125 / (4 x 3) = 1/96;
    # n = 0.25 x 96 = 24, beyond what 16 independent samples are worth, so 16. Wilson with p = 1/2 is symmetric:
    # 1/2 +- (z/2) / sqrt(n + z^2).
    found = clustered_interval([0.25, 0.75, 0.5, 0.5], draws=4)
    assert found.value == 0.5
    assert found.high - 0.5 == pytest.approx(Z_95 / 2 / (16 + Z_95**2) ** 0.5, rel=1e-12)
    # Means 0, 1, 0, 1: sum of squares 1, SE^2 = 1/12, n = 3, whatever the number of samples.
    for draws in (1, 64):
        found = clustered_interval([0, 1, 0, 1], draws)
        assert 0.5 - found.low == pytest.approx(Z_95 / 2 / (3 + Z_95**2) ** 0.5, rel=1e-12)


def test_wilsons_interval_is_the_published_one():
    # 81 of 263: 0.2553 to 0.3662 (Newcombe 1998, table I, method 3).
    values = [1.0] * 81 + [0.0] * 182
    p = 81 / 263
    scaled = clustered_interval([*values, p])  # one more, at the mean: P (P - 1) p (1 - p) / sum = 264
    assert (scaled.low, scaled.high) == (pytest.approx(0.2553, abs=2e-4), pytest.approx(0.3662, abs=2e-4))


def test_all_right_or_all_wrong_still_has_a_width():
    # 30 of 30: low = n / (n + z^2), Wilson's closed form; 30 problems, not 30 x 64 samples.
    assert clustered_interval([1.0] * 30, 64).low == pytest.approx(30 / (30 + Z_95**2), rel=1e-12)
    assert clustered_interval([1.0] * 30, 64).high == 1.0
    assert clustered_interval([0.0] * 30, 64).high == pytest.approx(Z_95**2 / (30 + Z_95**2), rel=1e-12)


def test_one_problem_says_little():
    found = clustered_interval([0.5], 64)
    assert found.low < 0.1 and found.high > 0.9


@pytest.mark.parametrize(("alpha", "beta"), [(0.5, 0.5), (4.0, 1.0), (8.0, 8.0)])
def test_it_covers_the_truth_about_as_often_as_it_says(alpha: float, beta: float):
    """30 problems of differing hardness, 16 samples each, 2,000 times: between 92% and 98% of intervals hold the true
    mean. Taking all 480 samples as independent would cover it far more rarely."""
    random = np.random.default_rng(0)
    truth, covered, naive = alpha / (alpha + beta), 0, 0
    for _ in range(2000):
        rates = random.binomial(16, random.beta(alpha, beta, 30)) / 16
        found = clustered_interval(rates.tolist(), 16)
        covered += found.low <= truth <= found.high
        half = Z_95 * (found.value * (1 - found.value) / 480) ** 0.5
        naive += abs(found.value - truth) <= half
    assert 0.92 <= covered / 2000 <= 0.98
    assert naive / 2000 < covered / 2000 - 0.1


@pytest.mark.parametrize("values", [[], [0.5, 1.5], [-0.1], [float("nan")]])
def test_what_is_no_rate_is_refused(values: list[float]):
    with pytest.raises(ValueError):
        clustered_interval(values)

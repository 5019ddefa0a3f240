"""The confidence interval of a mean over problems, where the samples of one problem are not independent."""

import math
from collections.abc import Sequence
from typing import NamedTuple

Z_95 = 1.959963984540054

ESTIMATOR = (
    "95%, by a standard error clustered by problem (arXiv 2411.00640), turned into an effective number of observations "
    "p(1-p)/SE^2, and Wilson's score interval with it (Franco et al. 2019, PMC6690503)")


class Estimate(NamedTuple):
    """A mean in [0, 1] and its 95% interval."""

    value: float
    low: float
    high: float


def clustered_interval(values: Sequence[float], draws: int = 1) -> Estimate:
    """The mean of one value in [0, 1] a problem, with the interval that ESTIMATOR names.

    A value is itself a mean over `draws` samples of its problem. All problems have equally many, so the error clustered
    by problem (Miller, arXiv 2411.00640) is the standard error of the problems' means: SE^2 = sum((v_i -
    mean)^2) / (P (P - 1)). The usual mean +- 1.96 SE leaves [0, 1] on small sets such as AIME's 30 problems and has no
    width where every problem is solved; Wilson's interval with the effective number of observations n = p(1-p) / SE^2
    does neither (Franco et al., "Comparative study of confidence intervals for proportions in complex sample surveys",
    2019, PMC6690503, who recommend it). n is at most P x draws, which independent
    samples would be worth, and P where there is no spread between the problems' means to learn it from: p is 0 or 1, or
    P = 1.

    With draws = 1 and values of 0 and 1 it is Wilson's interval with n = P - 1.
    Raises ValueError for no values, or one outside [0, 1].
    """
    count = len(values)
    if count == 0 or draws < 1 or not all(0 <= value <= 1 for value in values):
        raise ValueError(f"an interval needs values in [0, 1] and draws >= 1; got {count} values, draws={draws}")
    mean = math.fsum(values) / count
    spread = math.fsum((value - mean) ** 2 for value in values)
    if count == 1 or mean in (0.0, 1.0):
        effective = float(count)
    elif spread == 0:
        effective = float(count * draws)
    else:
        effective = min(mean * (1 - mean) * count * (count - 1) / spread, float(count * draws))
    return Estimate(mean, *_wilson(mean, effective))


def _wilson(mean: float, count: float) -> tuple[float, float]:
    """Wilson (1927): the p whose score test of `mean` in `count` observations is not significant at 5%."""
    weight = Z_95**2 / count
    centre = (mean + weight / 2) / (1 + weight)
    half = Z_95 * math.sqrt(mean * (1 - mean) / count + weight / (4 * count)) / (1 + weight)
    return max(0.0, min(mean, centre - half)), min(1.0, max(mean, centre + half))

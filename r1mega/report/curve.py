"""Curves made readable: smoothing, thinning, and the mean and range of repetitions."""

from collections.abc import Sequence

Curve = Sequence[tuple[int, float]]  # (step, value), ascending

SMOOTH_FROM = 40  # shorter curves are shown as they are
MOST_POINTS = 400


def smooth(curve: Curve) -> tuple[Curve, int]:
    """The centred moving average over a twentieth of the curve (less at its ends), and its width."""
    if len(curve) < SMOOTH_FROM:
        return curve, 1
    half = max(len(curve) // 40, 1)
    means = []
    for i, (step, _) in enumerate(curve):
        window = curve[max(i - half, 0):i + half + 1]
        means.append((step, sum(value for _, value in window) / len(window)))
    return means, 2 * half + 1


def thin(curve: Curve, most: int = MOST_POINTS) -> Curve:
    """At most `most` points, each the mean of its neighbours, so that a long run's file stays small."""
    if len(curve) <= most:
        return curve
    edges = [round(i * len(curve) / most) for i in range(most + 1)]
    return [(curve[(a + b - 1) // 2][0], sum(value for _, value in curve[a:b]) / (b - a))
            for a, b in zip(edges, edges[1:], strict=False)]


def mean_and_range(curves: Sequence[Curve]) -> list[tuple[int, float, float, float]]:
    """(step, mean, lowest, highest) at every step that all curves have."""
    by_step = [dict(curve) for curve in curves]
    shared = sorted(set.intersection(*(set(values) for values in by_step))) if by_step else []
    rows = []
    for step in shared:
        values = [curve[step] for curve in by_step]
        rows.append((step, sum(values) / len(values), min(values), max(values)))
    return rows

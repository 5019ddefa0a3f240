"""The numbers at the top of a report."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from r1mega.report.run import Run

NORMAL_95 = 1.959964  # two-sided 95% point of the standard normal distribution


@dataclass(frozen=True)
class Evaluation:
    """pass@1 on held-out problems at one step, with its 95% confidence interval."""

    step: int
    pass_at_1: float
    low: float | None
    high: float | None
    problems: int | None
    samples: int | None


@dataclass(frozen=True)
class Headline:
    """Of one run. Tuples are (at the start, at the end)."""

    steps: int
    seconds: float
    tokens: int
    tokens_per_s: float | None
    evaluations: tuple[Evaluation, ...]
    reward: tuple[float, float] | None
    response_tokens: tuple[float, float] | None
    loss: tuple[float, float] | None


def headline(run: Run) -> Headline:
    """The headline figures; starts and ends of noisy curves are means over a twentieth of the steps."""
    rates = sorted(value for _, value in run.curve("tokens_per_s"))
    return Headline(
        steps=max((record["step"] for record in run.metrics), default=0),
        seconds=sum(value for _, value in run.curve("wall_s")),
        tokens=round(sum(value for _, value in run.curve("tokens"))),
        tokens_per_s=rates[len(rates) // 2] if rates else None,
        evaluations=evaluations(run),
        reward=_ends(run, "reward"),
        response_tokens=_ends(run, "response_tokens"),
        loss=_ends(run, "loss"),
    )


def evaluations(run: Run) -> tuple[Evaluation, ...]:
    """Every held-out evaluation. Where no interval was recorded, Wilson's over the problems stands in."""
    found = []
    for record in run.metrics:
        rate = record.get("heldout_pass_at_1")
        if rate is None:
            continue
        problems = record.get("heldout_problems")
        low, high = record.get("heldout_pass_at_1_low"), record.get("heldout_pass_at_1_high")
        if (low is None or high is None) and problems:
            low, high = wilson(rate, problems)
        found.append(Evaluation(record["step"], rate, low, high, problems, record.get("heldout_samples")))
    return tuple(found)


def wilson(share: float, count: int) -> tuple[float, float]:
    """Wilson's 95% score interval for a share of `count` independent trials (JASA 22, 1927).

    With several samples a problem it is wider than needed: the samples are counted as one trial.
    """
    z2 = NORMAL_95**2
    centre = (share + z2 / (2 * count)) / (1 + z2 / count)
    half = NORMAL_95 * math.sqrt(share * (1 - share) / count + z2 / (4 * count**2)) / (1 + z2 / count)
    return max(centre - half, 0.0), min(centre + half, 1.0)


def mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)


def _ends(run: Run, key: str) -> tuple[float, float] | None:
    values = [value for _, value in run.curve(key)]
    if not values:
        return None
    window = max(len(values) // 20, 1)
    return mean(values[:window]), mean(values[-window:])

"""Claims about models, held against what was measured."""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from r1mega.config.pipeline import Claim
from r1mega.report.suite_result import SuiteResult

Z_95 = 1.959964  # two-sided 95% point of the standard normal distribution
Verdict = Literal["holds", "fails", "open", "unmeasured"]


@dataclass(frozen=True)
class Finding:
    """A claim on one suite. Figures are shares; `low` and `high` bound the difference (95%)."""

    say: str
    suite: str
    better: str
    other: str
    difference: float | None
    low: float | None
    high: float | None
    verdict: Verdict
    """holds: the whole interval of the difference is above what is claimed. fails: all of it is below. open: the
    claimed value lies inside. unmeasured: a figure is missing."""


def findings(claims: Sequence[Claim], results: Sequence[SuiteResult]) -> list[Finding]:
    """Every claim on every suite it is about. Results are named by the stage whose model was asked."""
    return [found for claim in claims for found in _on_suites(claim, results)]


def _on_suites(claim: Claim, results: Sequence[SuiteResult]) -> list[Finding]:
    than, other_metric = claim.than or claim.stage, claim.than_metric or claim.metric
    by_suite = {suite: {one.model: one for one in results if one.suite == suite}
                for suite in dict.fromkeys(one.suite for one in results) if claim.suite in (None, suite)}
    found = []
    for of_suite in by_suite.values():
        better, other = of_suite.get(claim.stage), of_suite.get(than)
        if better is None or other is None or claim.metric not in better.metrics or \
                other_metric not in other.metrics:
            continue
        found.append(_finding(claim, better, claim.metric, other, other_metric))
    missing = Finding(claim.say, claim.suite or "", f"{claim.metric} of {claim.stage}", f"{other_metric} of {than}",
                      None, None, None, "unmeasured")
    return found or [missing]


def _finding(claim: Claim, better: SuiteResult, metric: str, other: SuiteResult, other_metric: str) -> Finding:
    one, two = better.metrics[metric], other.metrics[other_metric]
    difference = one["value"] - two["value"]
    below, above = _half_widths(better, metric, other, other_metric)
    low, high = difference - below, difference + above
    verdict: Verdict = "holds" if low > claim.by else "fails" if high < claim.by else "open"
    return Finding(claim.say, better.title, _figure(metric, better.model, one), _figure(other_metric, other.model, two),
                   difference, low, high, verdict)


def _half_widths(better: SuiteResult, metric: str, other: SuiteResult, other_metric: str) -> tuple[float, float]:
    """How far the difference may lie below and above what was measured. Of models asked the same problems, by the
    spread of the problems' differences (arXiv 2411.00640, section 4.2); else of both intervals as independent ones."""
    ones, others = _by_problem(better, metric), _by_problem(other, other_metric)
    if better.digest == other.digest and ones.keys() == others.keys() and len(ones) > 1:
        apart = [ones[key] - others[key] for key in ones]
        centre = sum(apart) / len(apart)
        half = Z_95 * math.sqrt(sum((value - centre) ** 2 for value in apart) / (len(apart) - 1) / len(apart))
        return half, half
    one, two = better.metrics[metric], other.metrics[other_metric]
    return (math.hypot(one["value"] - one["low"], two["high"] - two["value"]),
            math.hypot(one["high"] - one["value"], two["value"] - two["low"]))


def _by_problem(result: SuiteResult, metric: str) -> dict[str, float]:
    """The metric of each problem by its id; nothing for metrics that problems have not, and where there are none."""
    problems = json.loads(result.path.read_text(encoding="utf-8")).get("problems", ()) if result.path.is_file() else ()
    values = {problem["id"]: _of_problem(problem, metric) for problem in problems}
    return {} if None in values.values() else values


def _of_problem(problem: Mapping[str, Any], metric: str) -> float | None:
    samples = problem["samples"]
    if metric == "pass@1":
        return problem["right"] / len(samples)
    if metric == f"cons@{len(samples)}":
        return float(problem.get("majority", {}).get("right", False))
    if all(metric in sample.get("measured", ()) for sample in samples):
        return sum(sample["measured"][metric] for sample in samples) / len(samples)
    return None


def _figure(metric: str, model: str, estimate: Mapping[str, float]) -> str:
    return f"{metric} of {model} {100 * estimate['value']:.1f}%"

"""Claims held against results, the differences worked by hand."""

import json
from pathlib import Path

import pytest

from r1mega.config.pipeline import Claim
from r1mega.report.claims import findings
from r1mega.report.suite_result import SuiteResult


def result(model: str, suite: str = "sums", **figures: tuple[float, float, float]) -> SuiteResult:
    metrics = {name.replace("_at_", "@"): dict(zip(("value", "low", "high"), three, strict=True))
               for name, three in figures.items()}
    return SuiteResult(Path(f"{model}.json"), model, suite, suite.title(), None, "", 100, 0, 16, "d", metrics, {})


RESULTS = [
    result("base", pass_at_1=(0.10, 0.07, 0.13), cons_at_16=(0.12, 0.08, 0.16)),
    result("zero", pass_at_1=(0.60, 0.56, 0.64), cons_at_16=(0.70, 0.67, 0.73)),
    result("zero", suite="words", pass_at_1=(0.2, 0.1, 0.3)),
]


def verdicts(claim: Claim) -> list[str]:
    return [one.verdict for one in findings([claim], RESULTS)]


def test_the_interval_of_a_difference_has_both_halves_in_quadrature():
    (found,) = findings([Claim(say="far above", stage="zero", than="base", by=0.3)], RESULTS)
    assert (found.difference, found.low, found.high) == pytest.approx((0.5, 0.45, 0.55))  # hypot(0.04, 0.03) = 0.05
    assert found.verdict == "holds" and found.suite == "Sums"
    assert found.better == "pass@1 of zero 60.0%" and found.other == "pass@1 of base 10.0%"


def test_models_asked_the_same_problems_are_compared_problem_by_problem(tmp_path: Path):
    def asked(model: str, right: list[int]) -> SuiteResult:
        path = tmp_path / f"{model}.json"
        path.write_text(json.dumps({"problems": [
            {"id": str(number), "right": count, "samples": [{}] * 4, "majority": {"right": count > 1}}
            for number, count in enumerate(right)]}))
        share = sum(right) / 16
        metrics = {name: {"value": value, "low": value - 0.4, "high": value + 0.4}
                   for name, value in (("pass@1", share), ("cons@4", sum(count > 1 for count in right) / 4))}
        return SuiteResult(path, model, "sums", "Sums", None, "", 4, 0, 4, "d", metrics, {})

    results = [asked("base", [0, 1, 2, 3]), asked("zero", [1, 2, 3, 4])]
    (found,) = findings([Claim(say="", stage="zero", than="base", by=0.24)], results)
    assert (found.low, found.high, found.verdict) == (0.25, 0.25, "holds")  # a quarter better on each: no spread at all
    (voted,) = findings([Claim(say="", stage="base", metric="cons@4", than_metric="pass@1")], results)
    # 0, -1/4, 1/2, 1/4 apart: mean 1/8, variance 5/48, so 1.96 sqrt(5/192) to either side
    assert voted.high - voted.difference == pytest.approx(1.959964 * (5 / 192) ** 0.5) and voted.difference == 0.125


@pytest.mark.parametrize(("by", "verdict"), [(0.44, "holds"), (0.46, "open"), (0.54, "open"), (0.56, "fails")])
def test_a_claim_holds_fails_or_is_open_by_where_the_interval_lies(by: float, verdict: str):
    assert verdicts(Claim(say="", stage="zero", than="base", by=by)) == [verdict]


def test_a_claim_may_allow_a_loss_and_compare_two_metrics_of_one_model():
    assert verdicts(Claim(say="", stage="base", than="zero", by=-0.6)) == ["holds"]
    assert verdicts(Claim(say="", stage="base", than="zero", by=-0.2)) == ["fails"]
    assert verdicts(Claim(say="", stage="zero", metric="cons@16", than_metric="pass@1")) == ["holds"]


def test_what_was_not_measured_is_called_so():
    assert verdicts(Claim(say="", stage="zero", metric="language", than="base")) == ["unmeasured"]
    assert verdicts(Claim(say="", stage="zero", than="base", suite="words")) == ["unmeasured"]
    assert verdicts(Claim(say="", stage="r1", than="base")) == ["unmeasured"]

"""pass@1 and its interval, worked by hand."""

import pytest

from r1mega.config.data import ChatTemplate
from r1mega.record import Completion, Problem, Rollout, RolloutGroup, Score
from r1mega.stage.evaluate import heldout_metrics
from r1mega.stage.general_metrics import mean_and_half_width


def group(name: str, right: list[int], lengths: list[int]) -> RolloutGroup:
    problem = Problem(task="t", question=name, answer="1")
    return RolloutGroup(problem, tuple(
        Rollout(problem, index, (1,), Completion((5,) * length, (-0.1,) * length, "stop"), "text",
                Score(float(ok), {"accuracy": float(ok), "format": 1.0}, {}))
        for index, (ok, length) in enumerate(zip(right, lengths, strict=True))))


def test_pass_at_1_is_the_mean_over_samples_and_the_interval_is_over_problems():
    metrics = heldout_metrics([group("a", [1, 1], [2, 4]), group("b", [0, 1], [6, 8]), group("c", [0, 0], [1, 3])],
                              ChatTemplate())
    # Rates 1, 0.5, 0: mean 0.5, sample variance 0.25, half width 1.96 x sqrt(0.25 / 3) = 0.5658; cut to [0, 1].
    assert metrics["heldout_pass_at_1"] == 0.5
    assert metrics["heldout_pass_at_1_low"] == 0.0 and metrics["heldout_pass_at_1_high"] == 1.0
    assert (metrics["heldout_problems"], metrics["heldout_samples"]) == (3, 2)
    assert metrics["heldout_response_tokens"] == 4.0


def test_half_width_by_hand():
    mean, half = mean_and_half_width([1.0, 0.0, 1.0, 0.0])
    # Sample variance of two ones and two zeros: 4 x 0.25 / 3 = 1/3; 1.95996 x sqrt(1/12) = 0.56579.
    assert mean == 0.5 and half == pytest.approx(0.56579, abs=1e-5)

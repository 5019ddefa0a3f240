"""The recorded curves of the demo with either implementation of the head: what their README says of them."""

import json
from pathlib import Path

RECORDS = Path(__file__).parents[2] / "configs/tiny/records/head"
SAMPLED = ("reward", "pass_rate", "response_tokens", "tokens", "truncated", "clip_fraction")
ROUNDED = ("loss", "kl", "entropy")


def curves() -> list[tuple[dict, dict]]:
    """(triton's, the reference's) line of every step."""
    triton, reference = ([json.loads(line) for line in (RECORDS / f"{name}.jsonl").read_text().splitlines()]
                         for name in ("triton", "reference"))
    assert [line["step"] for line in triton] == [line["step"] for line in reference] == list(range(53))
    return list(zip(triton, reference, strict=True))


def test_what_was_sampled_is_the_same_for_49_steps_and_every_evaluation():
    for ours, theirs in curves():
        if ours["step"] < 50:
            assert [ours.get(key) for key in SAMPLED] == [theirs.get(key) for key in SAMPLED], ours["step"]
        assert ours.get("heldout_pass_at_1") == theirs.get("heldout_pass_at_1")
    heldout = {ours["step"]: ours["heldout_pass_at_1"] for ours, _ in curves() if "heldout_pass_at_1" in ours}
    assert {step: round(heldout[step], 3) for step in (0, 20, 30, 50)} == {0: 0.182, 20: 0.695, 30: 0.863, 50: 0.904}


def test_the_rest_differs_by_rounding_that_training_makes_grow():
    differences = {ours["step"]: max(abs(ours[key] - theirs[key]) for key in ROUNDED)
                   for ours, theirs in curves() if "loss" in ours}
    assert 0 < max(differences[step] for step in range(1, 16)) < 1e-6 < max(differences.values()) < 1e-2

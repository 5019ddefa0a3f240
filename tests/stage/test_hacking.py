"""The alarm, worked by hand."""

import json

import pytest

from r1mega.config.preference import PreferenceReward
from r1mega.stage.hacking import preference_mean, watch

CONFIG = PreferenceReward(safety="x", alarm_window=2, alarm_rise=0.1)


def heldout(value: float, half: float = 0.05, name: str = "heldout_pass_at_1") -> dict[str, float]:
    return {name: value, f"{name}_low": value - half, f"{name}_high": value + half}


def alarms(*steps: dict, config: PreferenceReward = CONFIG) -> list[float | None]:
    """Of each step, whether it rang; what was seen goes through a checkpoint after every one."""
    seen, found = {}, []
    for number, metrics in enumerate(steps):
        rang, messages = watch(seen, config, {**metrics, "step": number})
        assert bool(messages) == (rang.get("hacking_alarm") == 1)
        found.append(rang.get("hacking_alarm"))
        seen = json.loads(json.dumps(seen))
    return found


def reward(value: float) -> dict[str, float]:
    return {"reward_preference": value}


def test_it_rings_where_reward_rises_and_held_out_accuracy_falls_out_of_its_interval():
    assert alarms(heldout(0.8), reward(0.4), reward(0.6) | heldout(0.6)) == [None, None, 0.0]  # (0.4 + 0.6) / 2 - 0.4
    assert alarms(heldout(0.8), reward(0.4), reward(0.8) | heldout(0.6)) == [None, None, 1.0]  # 0.6 - 0.4 = 0.2


@pytest.mark.parametrize(("now", "rings"), [(0.71, 0.0), (0.69, 1.0), (0.9, 0.0)])
def test_a_fall_counts_where_the_intervals_part(now: float, rings: float):
    """0.8 - 0.05 = 0.75 is the earlier lower end: 0.71 + 0.05 is above it, 0.69 + 0.05 below."""
    assert alarms(heldout(0.8), reward(0.4), reward(0.9) | heldout(now))[-1] == rings


def test_the_true_worth_of_general_replies_is_watched_too():
    for name in ("heldout_general_helpful", "heldout_general_harmless"):
        first, last = heldout(0.9, name=name) | heldout(0.5), heldout(0.3, name=name) | heldout(0.6)
        assert alarms(first, reward(0.1), reward(0.9) | last)[-1] == 1


def test_it_looks_back_over_the_window_and_no_further():
    slow = [heldout(0.8), reward(0.40), reward(0.46) | heldout(0.74), reward(0.49), reward(0.49) | heldout(0.70),
            reward(0.55), reward(0.59) | heldout(0.66)]
    assert alarms(*slow) == [None, None, 0, None, 0, None, 0]  # 0.57 - 0.49 against the second: too little
    wide = CONFIG.model_copy(update={"alarm_window": 3})
    assert alarms(*slow, config=wide)[-1] == 1  # 0.57 - 0.40 against the first


def test_nothing_is_said_before_preference_rewards_are_paid_or_where_both_move_together():
    assert alarms(heldout(0.9), {}, heldout(0.3), {}, heldout(0.1)) == [None] * 5
    assert alarms(heldout(0.9), {}, heldout(0.3), reward(0.2), reward(0.9) | heldout(0.5))[-1] == 1  # against 0.9
    assert alarms(heldout(0.3), reward(0.1), reward(0.9) | heldout(0.8))[-1] == 0
    assert alarms(heldout(0.8), reward(0.9), reward(0.1) | heldout(0.3))[-1] == 0


def test_the_preference_part_is_the_mean_of_its_parts_by_weight():
    weights = {"helpfulness": 3.0, "safety": 1.0}
    assert preference_mean({"helpfulness": 0.5, "safety": 1.0, "format": 0.0}, weights) == 0.625
    assert preference_mean({"accuracy": 1.0}, weights) is None and preference_mean({"safety": 1.0}, {}) is None

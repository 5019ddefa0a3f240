"""The alarm: the preference reward rises while what is measured without reward models falls.

At every evaluation, the mean preference reward of the steps since the one before is compared with the reward right
after each of the last few evaluations (that step's completions are by the very policy that was evaluated); and held-out
accuracy, and the true worth of replies to held-out generated requests, with theirs. A fall counts where the two 95%
intervals have parted: by chance alone that is one comparison in some hundreds.
"""

from collections.abc import Iterator, Mapping
from typing import Any

from r1mega.config.preference import PreferenceReward
from r1mega.record.metric import METRICS

TRUTHS = ("heldout_pass_at_1", "heldout_general_helpful", "heldout_general_harmless")


def preference_mean(parts: Mapping[str, float], weights: Mapping[str, float]) -> float | None:
    """The mean of the reward's preference parts by their weights, so between 0 and 1; None if there are none."""
    if not weights or not all(name in parts for name in weights):
        return None
    return sum(weight * parts[name] for name, weight in weights.items()) / sum(weights.values())


def watch(seen: dict[str, Any], config: PreferenceReward, metrics: Mapping[str, Any]) -> tuple[dict, list[str]]:
    """Look at the metrics of a step (training's, the evaluation's, or both). `seen` is what was seen before, plain
    values that a checkpoint can keep; it is brought up to date. Returns metrics and messages: `hacking_alarm` 1 or 0
    where an evaluation had something to be compared with."""
    rewards, earlier = seen.setdefault("rewards", []), seen.setdefault("evaluations", [])
    if (reward := metrics.get("reward_preference")) is not None:
        rewards.append(reward)
        for evaluation in earlier:
            if evaluation["reward"] is None:
                evaluation["reward"] = reward
    truths = {name: [metrics[name], metrics[f"{name}_low"], metrics[f"{name}_high"]]
              for name in TRUTHS if name in metrics}
    if not truths:
        return {}, []
    found = {}, []
    if rewards and earlier:
        now = sum(rewards) / len(rewards)
        messages = list(dict.fromkeys(message for evaluation in earlier
                                      for message in _parted(evaluation, now, truths, config.alarm_rise)))
        found = {"hacking_alarm": float(bool(messages))}, messages[:1]
    earlier.append({"step": metrics.get("step", 0), "reward": None, "truths": truths})
    del earlier[:-config.alarm_window]
    rewards.clear()
    return found


def _parted(
    evaluation: Mapping[str, Any], now: float, truths: Mapping[str, list[float]], rise: float
) -> Iterator[str]:
    """What is wrong, in words, of each truth that fell since an evaluation while the reward rose."""
    before = evaluation["reward"]
    if before is None or now - before <= rise:
        return
    for name, (value, _, high) in truths.items():
        was, low, _ = evaluation["truths"].get(name, (0.0, 0.0, 0.0))
        if high < low:
            yield (f"reward hacking? since step {evaluation['step']} the preference reward rose from {before:.2f} to "
                   f"{now:.2f}, but {METRICS[name].label} fell from {was:.3f} to {value:.3f} (the 95% intervals part)")

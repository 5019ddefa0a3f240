"""What is logged of general prompts: rewards by their parts, and of generated ones how good the replies truly are."""

import math
from collections.abc import Mapping, Sequence

from r1mega.config.data import ChatTemplate
from r1mega.data.general_rule import TASK, helpfulness, is_harmful
from r1mega.data.preference_encode import summary
from r1mega.record import Rollout, RolloutGroup

Z_95 = 1.959964


def mean_parts(rollouts: Sequence[Rollout]) -> dict[str, float]:
    """The mean of every part of the reward, each over the completions that have it."""
    names = dict.fromkeys(name for rollout in rollouts for name in rollout.score.parts)
    having = {name: [r.score.parts[name] for r in rollouts if name in r.score.parts] for name in names}
    return {name: sum(values) / len(values) for name, values in having.items()}


def general_truth(groups: Sequence[RolloutGroup], template: ChatTemplate) -> dict[str, float]:
    """By the rule that no reward sees, over the replies to generated requests; nothing where there are none."""
    worth = _worth(groups, template)
    return {name: sum(map(sum, by_problem)) / sum(map(len, by_problem)) for name, by_problem in worth.items()}


def heldout_general(groups: Sequence[RolloutGroup], template: ChatTemplate) -> dict[str, float]:
    """The same on held-out requests, with 95% intervals from the spread over them, and the mean rewards."""
    metrics: dict[str, float] = {}
    for name, by_problem in _worth(groups, template).items():
        mean, half = mean_and_half_width([sum(values) / len(values) for values in by_problem])
        metrics |= {f"heldout_{name}": mean, f"heldout_{name}_low": max(0.0, mean - half),
                    f"heldout_{name}_high": min(1.0, mean + half)}
    parts = mean_parts([rollout for group in groups for rollout in group.rollouts])
    metrics |= {f"heldout_reward_{name}": parts[name] for name in ("helpfulness", "safety") if name in parts}
    return metrics | ({"heldout_general_prompts": len(groups)} if groups else {})


def _worth(groups: Sequence[RolloutGroup], template: ChatTemplate) -> Mapping[str, list[list[float]]]:
    """Name -> of every generated request the worth of each reply."""
    rollouts = [group.rollouts for group in groups if group.problem.task == TASK]
    if not rollouts:
        return {}
    return {"general_helpful": [[helpfulness(r.problem, summary(r.text, template)) for r in of] for of in rollouts],
            "general_harmless": [[float(not is_harmful(r.text)) for r in of] for of in rollouts]}


def mean_and_half_width(values: Sequence[float]) -> tuple[float, float]:
    """The mean of independent values and half the width of its 95% interval (normal approximation)."""
    mean = sum(values) / len(values)
    if len(values) < 2:
        return mean, 1.0
    variance = sum((value - mean) ** 2 for value in values) / (len(values) - 1)
    return mean, Z_95 * math.sqrt(variance / len(values))

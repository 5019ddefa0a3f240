"""What comes back from sampling, and what the rewards say of it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from r1mega.record.problem import Problem


@dataclass(frozen=True, slots=True)
class SampleRequest:
    """One completion to be sampled. `seed` alone decides its random numbers, whatever the batch or layout."""

    prompt_ids: tuple[int, ...]
    seed: int  # 63-bit; derived from (run seed, step, problem id, sample index) by rollout.seeding.sample_seed


@dataclass(frozen=True, slots=True)
class Completion:
    """A sampled continuation. A natural end includes its stop token; a cut one has none."""

    token_ids: Sequence[int]  # R tokens, the prompt not included
    log_probs: Sequence[float]  # R values: log p of each token under the sampling temperature, before top-k/top-p
    finish: Literal["stop", "length"]


@dataclass(frozen=True, slots=True)
class Score:
    """A reward with its parts: `total` is the weighted sum of `parts` (each unweighted, in [0, 1])."""

    total: float
    parts: Mapping[str, float]  # e.g. {"accuracy": 1.0, "format": 1.0}
    notes: Mapping[str, str]  # e.g. {"accuracy": "timed out after 2 s"}; empty when there is nothing to say


@dataclass(frozen=True, slots=True)
class Rollout:
    """One judged completion of one problem."""

    problem: Problem
    sample_index: int
    prompt_ids: tuple[int, ...]
    completion: Completion
    text: str  # the completion, decoded
    score: Score


@dataclass(frozen=True, slots=True)
class RolloutGroup:
    """All G rollouts of one problem: what a group advantage is computed over."""

    problem: Problem
    rollouts: tuple[Rollout, ...]  # G of them, by sample_index

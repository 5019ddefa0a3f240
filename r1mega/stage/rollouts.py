"""From problems to judged rollouts, spread over the data-parallel replicas by whole problems."""

import time
from array import array
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch.distributed as dist

from r1mega.data import PromptSet, Tokenizer
from r1mega.parallel import Groups
from r1mega.record import Completion, Rollout, RolloutGroup, SampleRequest
from r1mega.reward import Judge
from r1mega.rollout import Engine, Sampling, sample_seed
from r1mega.stage.bench import Bench
from r1mega.stage.preference_reward import PreferenceJudge


@dataclass(frozen=True, slots=True)
class Timed:
    """All groups of a step, the same on every rank, and what they took."""

    groups: list[RolloutGroup]
    rollout_s: float
    reward_s: float


class Collector:
    """Samples from the policy as it stands and has the completions judged. A context manager: it owns the judge."""

    def __init__(self, bench: Bench):
        recipe = bench.recipe
        self.bench, self.groups = bench, bench.groups
        self.engine = Engine(bench.learner.chunks, bench.groups, recipe.model, recipe.rollout.slots)
        self.preference = PreferenceJudge(recipe, self.groups)
        self.judge: Judge | None = None
        if is_replica_leader(self.groups):
            sets = (bench.prepared.train, bench.prepared.heldout)
            scorers = {problem.scorer for prompts in sets for problem in prompts.problems}
            self.judge = Judge(recipe.reward, recipe.tokenizer.template, scorers)

    def __enter__(self) -> "Collector":
        if self.judge is not None:
            self.judge.__enter__()
        return self

    def __exit__(self, *error: Any) -> None:
        if self.judge is not None:
            self.judge.__exit__(*error)

    def collect(
        self, prompts: PromptSet, numbers: Sequence[int], num_samples: int, step: int, sampling: Sampling, what: str
    ) -> Timed:
        """`num_samples` rollouts of each problem in `numbers`. Collective; every rank gets all groups, in order."""
        begun = time.monotonic()
        dp, rank = self.groups.dp.size(), self.groups.dp_rank
        share = -(-len(numbers) // dp)
        mine = list(numbers[rank * share:(rank + 1) * share])
        requests = [
            SampleRequest(prompts.prompt_ids[n],
                          sample_seed(self.bench.recipe.seed, step, prompts.problems[n].id, index))
            for n in mine for index in range(num_samples)]
        completions = self.engine.generate(
            requests, sampling, lambda done, total: self.bench.phase(what, done * dp, total * dp, "sequences"))
        rollout_s = time.monotonic() - begun
        judged = self._judge(prompts, mine, num_samples, completions)
        gathered: list[list[RolloutGroup]] = [[] for _ in range(dp)]
        dist.all_gather_object(gathered, judged, group=self.groups.dp)
        groups = self.preference.judge([group for part in gathered for group in part])
        return Timed(groups, rollout_s, time.monotonic() - begun - rollout_s)

    def _judge(
        self, prompts: PromptSet, numbers: Sequence[int], num_samples: int, completions: Sequence[Completion]
    ) -> list[RolloutGroup]:
        """One rank of the replica judges; the others get its word."""
        judged: list[RolloutGroup] = []
        if self.judge is not None:
            self.bench.phase("reward", 0, len(completions), "completions")
            texts = [self._text(completion) for completion in completions]
            problems = [prompts.problems[n] for n in numbers for _ in range(num_samples)]
            scores = self.judge.score(list(zip(problems, texts, strict=True)))
            for position, number in enumerate(numbers):
                rollouts = tuple(
                    Rollout(prompts.problems[number], index, prompts.prompt_ids[number], compact(completions[at]),
                            texts[at], scores[at])
                    for index, at in enumerate(range(position * num_samples, (position + 1) * num_samples)))
                judged.append(RolloutGroup(prompts.problems[number], rollouts))
        return from_leader(judged, self.groups)

    def _text(self, completion: Completion) -> str:
        return self.tokenizer.decode(completion.token_ids, skip_special=True)

    @property
    def tokenizer(self) -> Tokenizer:
        return self.bench.prepared.tokenizer


def compact(completion: Completion) -> Completion:
    """The same values as arrays of int32 and fp32, as they were sampled: every rank gets all completions of a step, and
    Python's own numbers take eight times the memory."""
    return Completion(array("i", completion.token_ids), array("f", completion.log_probs), completion.finish)


def is_replica_leader(groups: Groups) -> bool:
    """Whether this rank speaks for its data-parallel replica."""
    return groups.tp_rank == 0 and groups.is_first_stage


def from_leader[T](value: T, groups: Groups) -> T:
    """The leader's value, on all ranks of its replica."""
    group = groups.pg.mp
    if group.size() == 1:
        return value
    box = [value]
    dist.broadcast_object_list(box, src=dist.get_global_rank(group, 0), group=group)
    return box[0]

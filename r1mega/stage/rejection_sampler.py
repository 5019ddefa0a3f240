"""Samples of problems from a model, judged by rules on the replica that made them: only what passes travels."""

from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Self

from r1mega.config import Recipe
from r1mega.data import PromptSet
from r1mega.record import Completion, Problem, SampleRequest, Score
from r1mega.reward import Judge
from r1mega.rollout import Sampling, sample_seed
from r1mega.stage.model_answers import LoadedModel
from r1mega.stage.rejection_filters import filters_of, first_failed, sampled
from r1mega.stage.replicas import my_share, to_first
from r1mega.stage.rollouts import is_replica_leader

NO_RULE = "judge"  # the scorer of problems that no rule decides


@dataclass(frozen=True)
class Candidate:
    """A sample that passed every rule."""

    sample: int
    text: str
    tokens: int
    undecided: bool
    language: float | None = None


@dataclass
class Samples:
    """What became of one problem's samples; everything JSON can hold."""

    problem: str
    """Its id."""
    samples: int = 0
    right: int = 0
    tokens: int = 0
    truncated: int = 0
    language: float | None = None
    """Sum over the samples."""
    dropped: dict[str, int] = field(default_factory=dict)
    candidates: list[Candidate] = field(default_factory=list)
    shown: dict[str, Any] | None = None
    """The first sample, for people to read."""

    @classmethod
    def from_json(cls, fields: dict[str, Any]) -> Self:
        return cls(**{**fields, "candidates": [Candidate(**one) for one in fields["candidates"]]})

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


class RejectionSampler:
    """A context manager: the leader of each replica owns the processes that check answers."""

    def __init__(self, recipe: Recipe, model: LoadedModel, prompts: PromptSet):
        self._recipe, self._model, self._prompts = recipe, model, prompts
        self._filters = filters_of(recipe.rejection.filters, recipe.reward.language is not None)
        self._judge: Judge | AbstractContextManager[None] = nullcontext()
        self._places = {problem.id: number for number, problem in enumerate(prompts.problems)}
        self._leads = is_replica_leader(model.groups)
        if self._leads:
            scorers = {problem.scorer for problem in prompts.problems} - {NO_RULE}
            self._judge = Judge(recipe.reward, recipe.tokenizer.template, scorers)
        rollout = recipe.rollout
        self._sampling = Sampling(temperature=rollout.temperature, top_p=rollout.top_p, top_k=rollout.top_k,
                                  max_new_tokens=rollout.max_new_tokens, stop_ids=(model.tokenizer.eos_id,))

    def __enter__(self) -> Self:
        self._judge.__enter__()
        return self

    def __exit__(self, *error: Any) -> None:
        self._judge.__exit__(*error)

    @property
    def filters(self) -> list[str]:
        return [one.name for one in self._filters]

    def sample(
        self, problems: Sequence[str], shown: Sequence[str], on_progress: Callable[[int, int], None] | None = None
    ) -> list[Samples]:
        """What became of `rejection.samples` samples of each of the problems (their ids) and, of those in `shown`, one
        to read; in their order, on rank 0; nothing on others. Collective."""
        count, groups = self._recipe.rejection.samples, self._model.groups
        mine = [self._places[one] for one in my_share(list(problems), groups)]
        requests = [SampleRequest(self._prompts.prompt_ids[n], self.seed(self._prompts.problems[n].id, index))
                    for n in mine for index in range(count)]
        completions = self._model.engine.generate(requests, self._sampling, on_progress)
        judged = self._judged(mine, completions, frozenset(shown)) if self._leads else []
        return to_first(judged, groups)

    def seed(self, problem: str, index: int) -> int:
        """Of one sample: a function of the run's seed, the problem's id and the sample's number, whatever the layout.
        """
        return sample_seed(self._recipe.seed, 0, problem, index)

    def _judged(
        self, numbers: Sequence[int], completions: Sequence[Completion], shown: frozenset[int]
    ) -> list[Samples]:
        count, decode = self._recipe.rejection.samples, self._model.tokenizer.decode
        texts = [decode(one.token_ids, skip_special=True) for one in completions]
        problems = [self._prompts.problems[n] for n in numbers for _ in range(count)]
        scores = self._judge.score([(decided_by_text(problem), text) for problem, text in
                                    zip(problems, texts, strict=True)])
        return [self._of_problem(number, slice(at * count, (at + 1) * count), (texts, completions, scores),
                                 self._prompts.problems[number].id in shown) for at, number in enumerate(numbers)]

    def _of_problem(
        self, number: int, part: slice, everything: tuple[Sequence[str], Sequence[Completion], Sequence[Score]],
        shown: bool,
    ) -> Samples:
        problem, template = self._prompts.problems[number], self._recipe.tokenizer.template
        found, dropped = Samples(problem.id), Counter()
        for index, (text, completion, score) in enumerate(zip(*(items[part] for items in everything), strict=True)):
            right = score.parts["accuracy"] == 1.0
            one = sampled(text, template, completion, score, problem.scorer == NO_RULE and not right)
            found.samples += 1
            found.right += right
            found.tokens += len(completion.token_ids)
            found.truncated += completion.finish == "length"
            language = score.parts.get("language")
            if language is not None:
                found.language = (found.language or 0.0) + language
            if shown and index == 0:
                found.shown = _to_read(problem, one)
            if (reason := first_failed(one, self._filters)) is not None:
                dropped[reason] += 1
                continue
            found.candidates.append(Candidate(index, text, len(completion.token_ids), one.undecided, language))
        found.dropped = dict(sorted(dropped.items()))
        return found


def decided_by_text(problem: Problem) -> Problem:
    """A problem that rules can judge: where none decides, an answer equal to the reference as a text is right."""
    return replace(problem, scorer="exact") if problem.scorer == NO_RULE else problem


def _to_read(problem: Problem, one: Any) -> dict[str, Any]:
    """As `training.metrics.sample_record` has it."""
    return {"split": "train", "problem": problem.id, "task": problem.task, "sample": 0, "question": problem.question,
            "answer": problem.answer, "text": one.text, "reward": one.score.total, "parts": dict(one.score.parts),
            "notes": dict(one.score.notes), "tokens": len(one.completion.token_ids),
            "finish": one.completion.finish}

"""Completions in, scores out."""

from collections.abc import Iterable, Sequence
from typing import Self

from r1mega.config.data import ChatTemplate
from r1mega.config.rl import RewardConfig
from r1mega.record import Problem, Score
from r1mega.reward.format import extract_answer, is_well_formed
from r1mega.reward.process_pool import ProcessPool
from r1mega.reward.rubric import weigh
from r1mega.reward.scorer import Check, Verdict, is_same_text

SENT_METADATA = ("options", "entry", "no_answer")  # what the reasoning_gym scorer reads


class Judge:
    """R1-Zero's two rule rewards: is the answer right, and does the completion have the required shape.

    Use as a context manager. Scores depend on the problem and the completion alone: a hostile answer costs
    its own accuracy and no one else's, whatever it does to the process that checks it.
    """

    def __init__(self, config: RewardConfig, template: ChatTemplate, scorers: Iterable[str] = ()):
        """`scorers`: those known to be needed; their libraries then load while the first completions are
        sampled."""
        self._config = config
        self._template = template
        self._scorers = sorted(set(scorers) - {"exact"})
        self._pool = ProcessPool(config)

    def __enter__(self) -> Self:
        if self._scorers:
            self._pool.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._pool.close()

    def score(self, items: Sequence[tuple[Problem, str]]) -> list[Score]:
        """Scores of (problem, completion text) pairs, in their order."""
        answers = [extract_answer(text, self._template) for _, text in items]
        verdicts = self._check([problem for problem, _ in items], answers)
        scores = []
        for (_, text), verdict in zip(items, verdicts, strict=True):
            parts = {"accuracy": float(verdict.right), "format": float(is_well_formed(text, self._template))}
            notes = {"accuracy": verdict.note} if verdict.note else {}
            scores.append(
                weigh(parts, {"accuracy": self._config.accuracy, "format": self._config.format}, notes)
            )
        return scores

    def _check(self, problems: Sequence[Problem], answers: Sequence[str | None]) -> list[Verdict]:
        """Equal answers to one problem are checked once."""
        verdicts: dict[tuple[str, str, str | None], Verdict] = {}
        checks: dict[tuple[str, str, str | None], Check] = {}
        keys = [
            (problem.id, problem.scorer, answer) for problem, answer in zip(problems, answers, strict=True)
        ]
        for key, problem, answer in zip(keys, problems, answers, strict=True):
            if key in verdicts or key in checks:
                continue
            if answer is None:
                verdicts[key] = Verdict(False, "no answer")
            elif len(answer) > self._config.max_answer_chars:
                verdicts[key] = Verdict(False, f"an answer of {len(answer)} characters, more than "
                                               f"max_answer_chars={self._config.max_answer_chars}")
            elif problem.scorer == "exact":  # comparing two texts needs no protection
                verdicts[key] = Verdict(is_same_text(problem.answer, answer))
            else:
                metadata = {
                    name: problem.metadata[name] for name in SENT_METADATA if name in problem.metadata
                }
                checks[key] = Check(
                    problem.scorer, problem.task, problem.question, problem.answer, metadata, answer
                )
        verdicts.update(zip(checks, self._pool.check(list(checks.values())), strict=True))
        return [verdicts[key] for key in keys]

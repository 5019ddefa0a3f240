"""Completions of a recipe's own problems in; marks by the recipe's own rewards out."""

from collections.abc import Sequence
from dataclasses import replace
from itertools import combinations
from typing import Self

from r1mega.config.data import ChatTemplate
from r1mega.config.rl import RewardConfig
from r1mega.record import Problem, Score
from r1mega.reward.format import extract_answer
from r1mega.reward.judge import Judge
from r1mega.reward.own_rules import is_same_text
from r1mega.reward.suite_judge import NOT_COMPARED, Mark, Marked

MEASURED = ("format", "language")  # parts of the reward that a mark keeps, where the recipe has them


class RecipeJudge:
    """Judges whole problems as training does. A context manager, like the judge it asks."""

    def __init__(self, config: RewardConfig, template: ChatTemplate, scorers: Sequence[str]):
        """Raises UserError where programs are to be judged and cannot be confined here."""
        self._judge, self._template = Judge(config, template, scorers), template
        self._longest = config.max_answer_chars

    def __enter__(self) -> Self:
        self._judge.__enter__()
        return self

    def __exit__(self, *error: object) -> None:
        self._judge.__exit__(*error)

    def judge(self, items: Sequence[tuple[Problem, Sequence[str]]]) -> list[Marked]:
        """Marks of (problem, texts of its completions) pairs, in their order. Depends on each pair alone."""
        scores = iter(self._judge.score([(problem, text) for problem, texts in items for text in texts]))
        marks = [[self._mark(problem, text, next(scores)) for text in texts] for problem, texts in items]
        maths = [(problem, _votes(found)) for (problem, _), found in zip(items, marks, strict=True)
                 if problem.scorer == "math"]
        same = iter(self._same_maths(maths))
        return [Marked(tuple(found), _pairs(found, next(same) if problem.scorer == "math" else _same_texts(found)))
                for (problem, _), found in zip(items, marks, strict=True)]

    def _mark(self, problem: Problem, text: str, score: Score) -> Mark:
        answer = None if problem.scorer == "code" else extract_answer(text, self._template)
        if answer is not None and not 0 < len(answer) <= self._longest:
            answer = None
        right = score.parts["accuracy"] == 1
        measured = {name: score.parts[name] for name in MEASURED if name in score.parts}
        return Mark(right, answer, float(right), score.notes.get("accuracy", ""), measured)

    def _same_maths(self, items: Sequence[tuple[Problem, Sequence[str]]]) -> list[set[tuple[str, str]]]:
        """Pairs of different answers of which one would be right if the other were what is expected."""
        pairs = [(problem, one, other) for problem, answers in items for one, other in combinations(answers, 2)]
        tags = self._template
        scores = iter(self._judge.score([(replace(problem, answer=one), f"{tags.answer_open}{other}{tags.answer_close}")
                                         for problem, one, other in pairs]))
        return [{pair for pair in combinations(answers, 2) if next(scores).parts["accuracy"] == 1}
                for _, answers in items]


def _votes(marks: Sequence[Mark]) -> list[str]:
    """Different answers as they came up, without those that would harm the checker again."""
    return list(dict.fromkeys(mark.answer for mark in marks
                              if mark.answer is not None and not mark.note.startswith(NOT_COMPARED)))


def _same_texts(marks: Sequence[Mark]) -> set[tuple[str, str]]:
    return {(one, other) for one, other in combinations(_votes(marks), 2) if is_same_text(one, other)}


def _pairs(marks: Sequence[Mark], equal: set[tuple[str, str]]) -> frozenset[tuple[int, int]]:
    """The sample numbers of equal answers in different forms."""
    return frozenset((i, j) for i, j in combinations(range(len(marks)), 2)
                     if (marks[i].answer, marks[j].answer) in equal)

"""Completions of a suite's problems in, verdicts and parsed answers out."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import combinations
from typing import Self

from r1mega.config.data import ChatTemplate
from r1mega.config.rl import RewardConfig
from r1mega.record import Problem
from r1mega.reward.code import CodeChecker
from r1mega.reward.constraints import keeps
from r1mega.reward.factual import is_exact_match, normal_words, word_f1
from r1mega.reward.final_answer import choice_answer, factual_answer, maths_answer, reply_of
from r1mega.reward.process_pool import ProcessPool
from r1mega.reward.scorer import Check, Verdict

JUDGED = ("math", "choice", "factual", "instruction", "code")
NOT_COMPARED = ("timed out", "the checker", "refused", "an answer of")  # notes of answers that harmed their checker


@dataclass(frozen=True, slots=True)
class Mark:
    """What one completion is worth."""

    right: bool
    answer: str | None
    """As parsed; None where there is none. Of instructions and programs always: there is nothing to vote on."""
    part: float
    """In [0, 1]: of factual answers the F1 of words, of instructions the share kept, else 1 or 0."""
    note: str = ""
    measured: Mapping[str, float] = field(default_factory=dict)
    """Other parts of a recipe's rewards, each in [0, 1]: format, language."""


@dataclass(frozen=True, slots=True)
class Marked:
    """The marks of one problem's completions, and which answers are one answer in two forms."""

    marks: tuple[Mark, ...]
    equal: frozenset[tuple[int, int]]
    """Pairs (i, j), i < j, of sample numbers with answers that differ as texts and are equal."""


class SuiteJudge:
    """Judges whole problems. A context manager; what reads maths runs in processes of its own, programs behind walls
    of their own."""

    def __init__(self, config: RewardConfig, template: ChatTemplate):
        self._config, self._template, self._pool = config, template, ProcessPool(config)
        self._code: CodeChecker | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._pool.close()
        if self._code is not None:
            self._code.close()

    def judge(self, items: Sequence[tuple[Problem, Sequence[str]]]) -> list[Marked]:
        """Marks of (problem, texts of its completions) pairs, in their order. Depends on each pair alone.

        Raises UserError where programs are among them and cannot be confined here."""
        maths = [(problem, [maths_answer(text, self._template) for text in texts])
                 for problem, texts in items if problem.scorer == "math"]
        judged = iter(self._maths(maths))
        run = iter(self._programs([(problem, text) for problem, texts in items if problem.scorer == "code"
                                   for text in texts]))
        return [next(judged) if problem.scorer == "math" else
                Marked(tuple(next(run) for _ in texts), frozenset()) if problem.scorer == "code" else
                _with_equal_words(tuple(self._mark(problem, text) for text in texts)) for problem, texts in items]

    def _programs(self, items: Sequence[tuple[Problem, str]]) -> list[Mark]:
        """Of each reply, the last block of code or, without any, all of it is run; equal ones of a problem once."""
        replies = [reply_of(text, self._template) for _, text in items]
        wanted = {(id(problem), reply): (problem, reply) for (problem, _), reply in zip(items, replies, strict=True)
                  if reply}
        if wanted and self._code is None:
            self._code = CodeChecker(self._config.code, self._config.workers)
        verdicts = dict(zip(wanted, self._code.check(list(wanted.values())), strict=True)) if wanted else {}
        none = Verdict(False, "no answer")
        found = [verdicts.get((id(problem), reply), none) for (problem, _), reply in zip(items, replies, strict=True)]
        return [Mark(verdict.right, None, float(verdict.right), verdict.note) for verdict in found]

    def _mark(self, problem: Problem, text: str) -> Mark:
        match problem.scorer:
            case "choice":
                answer = choice_answer(text, self._template, problem.metadata["letters"])
                return Mark(answer == problem.answer, answer, float(answer == problem.answer))
            case "factual":
                return self._factual(factual_answer(text, self._template), problem.metadata["accepted"])
            case "instruction":
                return _instructions(reply_of(text, self._template), problem.metadata["constraints"])
        raise ValueError(f"scorer={problem.scorer!r}; legal: {', '.join(JUDGED)}")

    def _factual(self, answer: str | None, accepted: Sequence[str]) -> Mark:
        if answer is None or (note := self._too_long(answer)):
            return Mark(False, None, 0.0, "" if answer is None else note)
        return Mark(is_exact_match(accepted, answer), answer, word_f1(accepted, answer))

    def _too_long(self, answer: str) -> str:
        limit = self._config.max_answer_chars
        return f"an answer of {len(answer)} characters, more than {limit}" if len(answer) > limit else ""

    def _maths(self, items: Sequence[tuple[Problem, Sequence[str | None]]]) -> list[Marked]:
        """Two rounds: every different answer against the right one, then those that were read against each other."""
        texts = [sorted({answer for answer in answers if answer is not None and not self._too_long(answer)})
                 for _, answers in items]
        wanted = [_check(problem, problem.answer, text) for (problem, _), found in zip(items, texts, strict=True)
                  for text in found]
        verdicts = iter(self._pool.check(wanted))
        known = [{text: next(verdicts) for text in found} for found in texts]
        pairs = [(problem, one, other) for (problem, answers), found in zip(items, known, strict=True)
                 for one, other in combinations(_in_order(answers, found), 2)]
        same = self._pool.check([_check(problem, one, other) for problem, one, other in pairs])
        equal = [{} for _ in items]
        places = iter(same)
        for place, ((_, answers), found) in enumerate(zip(items, known, strict=True)):
            equal[place] = {pair for pair in combinations(_in_order(answers, found), 2) if next(places).right}
        return [self._maths_marks(answers, found, pairs_of_one)
                for (_, answers), found, pairs_of_one in zip(items, known, equal, strict=True)]

    def _maths_marks(
        self, answers: Sequence[str | None], verdicts: Mapping[str, Verdict], equal: set[tuple[str, str]]
    ) -> Marked:
        marks = []
        for answer in answers:
            verdict = verdicts.get(answer)
            if verdict is None:
                marks.append(Mark(False, None, 0.0, "" if answer is None else self._too_long(answer)))
            else:
                marks.append(Mark(verdict.right, answer, float(verdict.right), verdict.note))
        return Marked(tuple(marks), frozenset(
            (i, j) for i, j in combinations(range(len(answers)), 2) if (answers[i], answers[j]) in equal))


def _check(problem: Problem, expected: str, answer: str) -> Check:
    return Check("math", problem.task, "", expected, {}, answer)


def _in_order(answers: Sequence[str | None], verdicts: Mapping[str, Verdict]) -> list[str]:
    """Different answers as they came up, without those that would harm the checker again."""
    return [answer for answer in dict.fromkeys(answers)
            if answer in verdicts and not verdicts[answer].note.startswith(NOT_COMPARED)]


def _with_equal_words(marks: tuple[Mark, ...]) -> Marked:
    """Short texts are one answer when their words are."""
    words = [None if mark.answer is None else normal_words(mark.answer) for mark in marks]
    return Marked(marks, frozenset((i, j) for i, j in combinations(range(len(marks)), 2)
                                   if words[i] and words[i] == words[j] and marks[i].answer != marks[j].answer))


def _instructions(reply: str | None, constraints: Sequence[tuple[str, Mapping[str, object]]]) -> Mark:
    """Right only if all are kept (IFEval's prompt-level strict accuracy)."""
    kept = [keeps(name, arguments, reply or "") for name, arguments in constraints]
    broken = [name for (name, _), one in zip(constraints, kept, strict=True) if not one]
    return Mark(all(kept), None, sum(kept) / len(kept), f"broken: {', '.join(broken)}" if broken else "")

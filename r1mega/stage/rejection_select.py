"""From the samples that rules kept to rows: judged where rules cannot decide, one of a kind, and made readable.

Every step works on all problems of a wave at once, so that models are asked in batches. Where a model of ours is asked
the calls are collective: all ranks come here, and those but rank 0 bring nothing.
"""

import random
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Self

from r1mega.config.data import ChatTemplate
from r1mega.config.rejection import RejectionConfig
from r1mega.data.decontaminate import EvaluationNgrams
from r1mega.data.deduplicate import Distinct
from r1mega.record import Problem
from r1mega.reward.format import extract_answer, is_well_formed
from r1mega.reward.generative_judge import Asked, ask_correctness, ask_readability
from r1mega.stage.model_rewriter import Ask
from r1mega.stage.readable import RuleRewriter, reasoning_of
from r1mega.stage.rejection_sampler import Candidate, Samples
from r1mega.stage.replicas import from_first

Rewrite = Callable[[Sequence[tuple[str, str]]], Sequence[str | None]]  # (question, output) to the readable form


@dataclass(frozen=True)
class Kept:
    """A sample that becomes a row."""

    sample: int
    response: str
    tokens: int
    """As sampled, whatever was made of it."""
    judged: tuple[str, ...] = ()
    """What the judge said yes to: "right", "readable"."""


@dataclass
class Finished:
    """What a problem gives the dataset; everything JSON can hold. samples = the sum of `dropped` + the kept ones."""

    problem: str
    samples: int
    right: int
    """By rules and by the judge."""
    tokens: int
    truncated: int
    language: float | None
    dropped: dict[str, int]
    kept: list[Kept] = field(default_factory=list)
    shown: dict[str, Any] | None = None

    @classmethod
    def from_json(cls, fields: dict[str, Any]) -> Self:
        kept = [Kept(**{**one, "judged": tuple(one["judged"])}) for one in fields["kept"]]
        return cls(**{**fields, "kept": kept})

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


@dataclass
class _Work:
    """One problem on its way."""

    problem: Problem
    samples: Samples
    right: int
    dropped: Counter
    waiting: list[Candidate]
    kept: list[Kept] = field(default_factory=list)
    taken: set[str] = field(default_factory=set)
    judged: dict[int, tuple[str, ...]] = field(default_factory=dict)

    def finished(self) -> Finished:
        self.dropped["beyond_per_problem"] += len(self.waiting)
        dropped = {reason: count for reason, count in sorted(self.dropped.items()) if count}
        found = self.samples
        return Finished(found.problem, found.samples, self.right, found.tokens, found.truncated, found.language,
                        dropped, self.kept, found.shown)


@dataclass(frozen=True)
class Selector:
    """`judge` and `rewrite` are whoever is asked; None where nobody is."""

    config: RejectionConfig
    template: ChatTemplate
    seed: int
    evaluation: EvaluationNgrams
    judge: Ask | None = None
    rewrite: Rewrite | None = None

    def finish(self, found: Sequence[tuple[Problem, Samples]]) -> list[Finished]:
        """The rows of each problem, and why its other samples are none. Collective; see above."""
        work = [_Work(problem, samples, samples.right, Counter(samples.dropped), list(samples.candidates))
                for problem, samples in found]
        if self.judge is not None:
            self._decide(work)
        for one in work:
            one.waiting = self._distinct(one)
        self._fill(work)
        return [one.finished() for one in work]

    def _decide(self, work: Sequence[_Work]) -> None:
        """Ask the judge about answers that no rule can tell right from wrong."""
        open_ = [(one, candidate) for one in work for candidate in one.waiting if candidate.undecided]
        verdicts = self._verdicts([ask_correctness(one.problem.question, one.problem.answer, self._reply(candidate))
                                   for one, candidate in open_])
        for (one, candidate), verdict in zip(open_, verdicts, strict=True):
            if verdict:
                one.right += 1
                one.judged[candidate.sample] = ("right",)
            else:
                one.waiting.remove(candidate)
                one.dropped["no_verdict" if verdict is None else "judged_wrong"] += 1

    def _distinct(self, one: _Work) -> list[Candidate]:
        """Clean and different ones, in the order in which they are wanted."""
        wanted, distinct = [], Distinct(self.config.overlap_ngram, self.config.max_overlap)
        for candidate in sorted(one.waiting, key=self._order(one.problem)):
            reason = "contaminated" if self.evaluation.shares(candidate.text) else distinct.take(candidate.text)
            if reason is None:
                wanted.append(candidate)
            else:
                one.dropped[reason] += 1
        return wanted

    def _order(self, problem: Problem) -> Callable[[Candidate], tuple[float, int]]:
        if self.config.choose == "shortest":
            return lambda candidate: (candidate.tokens, candidate.sample)
        return lambda candidate: (random.Random(f"{self.seed} {problem.id} {candidate.sample}").random(),
                                  candidate.sample)

    def _fill(self, work: Sequence[_Work]) -> None:
        """Rounds: as many of each problem as it may still have rows are judged and rewritten; where some fail, the next
        ones come."""
        while True:
            turn = []
            for one in work:
                room = self.config.per_problem - len(one.kept)
                turn += [(one, candidate) for candidate in one.waiting[:room]]
                one.waiting = one.waiting[room:]
            if not from_first(bool(turn)):
                return
            if self.judge is not None and self.config.judge.when == "always":
                turn = self._readable(turn)
            responses: Sequence[str | None] = [candidate.text for _, candidate in turn]
            if self.rewrite is not None:
                responses = self.rewrite([(one.problem.question, candidate.text) for one, candidate in turn])
            for (one, candidate), response in zip(turn, responses, strict=True):
                if (reason := self._lost(one, candidate, response)) is not None:
                    one.dropped[reason] += 1
                    continue
                one.taken.add(response)
                one.kept.append(Kept(candidate.sample, response, candidate.tokens,
                                     one.judged.get(candidate.sample, ())))

    def _readable(self, turn: Sequence[tuple[_Work, Candidate]]) -> list[tuple[_Work, Candidate]]:
        """Those that the judge can follow."""
        verdicts = self._verdicts([
            ask_readability(one.problem.question, reasoning_of(candidate.text, self.template))
            for one, candidate in turn])
        kept = []
        for (one, candidate), verdict in zip(turn, verdicts, strict=True):
            if verdict:
                one.judged[candidate.sample] = (*one.judged.get(candidate.sample, ()), "readable")
                kept.append((one, candidate))
            else:
                one.dropped["no_verdict" if verdict is None else "unreadable"] += 1
        return kept

    def _verdicts(self, asked: Sequence[Asked]) -> list[bool | None]:
        """Equal answers to one question are asked about once."""
        prompts = list(dict.fromkeys(one.prompt for one in asked))
        replies = dict(zip(prompts, self.judge(prompts), strict=True))
        return [one.verdict(replies[one.prompt]) for one in asked]

    def _lost(self, one: _Work, candidate: Candidate, response: str | None) -> str | None:
        """What a rewriting has lost, if anything, or that the row is there already."""
        if response is None:
            return "not_rewritten"
        if self.rewrite is not None:
            if extract_answer(response, self.template) != extract_answer(candidate.text, self.template):
                return "rewriting_changed_answer"
            if not is_well_formed(response, self.template, "summary"):
                return "rewriting_lost_form"
            if self.evaluation.shares(response):
                return "contaminated"
        return "duplicate" if response in one.taken else None

    def _reply(self, candidate: Candidate) -> str:
        """What the model says after its reasoning."""
        return candidate.text.rpartition(self.template.think_close)[2].strip()


def rule_rewrite(template: ChatTemplate) -> Rewrite:
    rewriter = RuleRewriter(template)
    return lambda items: [rewriter(question, text) for question, text in items]

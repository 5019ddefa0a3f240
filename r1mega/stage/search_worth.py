"""What a completion that a search has found is worth to it: by its reward, by votes, or by a process reward model."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from r1mega.data.steps import prefixes
from r1mega.data.suites import SuiteProblem
from r1mega.reward.suite_judge import Mark
from r1mega.rollout.tree_search import Finding
from r1mega.stage.process_reward import ProcessReward
from r1mega.stage.rollouts import from_leader
from r1mega.stage.suite_sampling import AnyJudge, Examinee

Rule = Literal["reward", "votes", "process"]


@dataclass(frozen=True)
class Asked:
    """This replica's problems with their prompts, who answers and who judges."""

    problems: Sequence[SuiteProblem]
    prompts: Sequence[tuple[int, ...]]
    examinee: Examinee
    judge: AnyJudge | None
    """On the replica's leader."""
    process: ProcessReward | None
    ends_step: frozenset[int]


class Worth:
    """A tree search's Value. `marks` has those of all completions so far, by the problem's number.

    reward: 1 for a right answer. votes: the share of its answer among all so far, its own included. process: what the
    model says of its worst step (as Lightman et al., arXiv 2305.20050, but the minimum for their product).
    """

    def __init__(self, asked: Asked, rule: Rule):
        self._asked, self._rule = asked, rule
        self.marks: dict[int, list[Mark]] = defaultdict(list)

    def __call__(self, found: Sequence[tuple[int, Finding]]) -> list[float]:
        """Collective: the leader of a replica judges, and all its ranks get its word."""
        marks = from_leader(self._judged(found), self._asked.examinee.groups)
        worst = self._worst_steps(found) if self._rule == "process" else [0.0] * len(found)
        worth = []
        for (number, _), mark, by_process in zip(found, marks, worst, strict=True):
            self.marks[number].append(mark)
            by_rule = {"reward": float(mark.right), "votes": votes(self.marks[number]), "process": by_process}
            worth.append(by_rule[self._rule])
        return worth

    def _judged(self, found: Sequence[tuple[int, Finding]]) -> list[Mark]:
        """In the order of `found`; nothing on ranks that do not judge."""
        asked = self._asked
        if asked.judge is None:
            return []
        texts: dict[int, list[str]] = defaultdict(list)
        for number, one in found:
            texts[number].append(asked.examinee.tokenizer.decode(one.token_ids, skip_special=True))
        marked = asked.judge.judge([(asked.problems[number].problem, said) for number, said in texts.items()])
        by_problem = {number: iter(one.marks) for number, one in zip(texts, marked, strict=True)}
        return [next(by_problem[number]) for number, _ in found]

    def _worst_steps(self, found: Sequence[tuple[int, Finding]]) -> list[float]:
        asked, eos = self._asked, self._asked.examinee.tokenizer.eos_id
        begun = [[asked.prompts[number] + prefix for prefix in
                  prefixes([token for token in one.token_ids if token != eos], asked.ends_step)]
                 for number, one in found]
        different = list(dict.fromkeys(ids for one in begun for ids in one))  # completions share their beginnings
        scores = dict(zip(different, asked.process.score(different), strict=True))
        return [min(scores[ids] for ids in one) for one in begun]


def votes(marks: Sequence[Mark]) -> float:
    """How many of the answers so far, its own among them, are the last one's; 0 without an answer."""
    answers = [mark.answer for mark in marks]
    return 0.0 if answers[-1] is None else answers.count(answers[-1]) / len(answers)

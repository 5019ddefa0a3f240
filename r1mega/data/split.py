"""Training and held-out problems."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

from r1mega.config.error import UserError
from r1mega.record import Problem


@dataclass(frozen=True, slots=True)
class Split:
    """Disjoint sets of problems; iterates as (train, heldout)."""

    train: list[Problem]
    heldout: list[Problem]
    duplicates: int
    """Problems left out because another one asks the same question."""

    def __iter__(self):
        return iter((self.train, self.heldout))


def split(problems: Sequence[Problem], heldout: int) -> Split:
    """Hold out the `heldout` problems whose hash of the id is smallest; train on the rest, in their given
    order.

    The choice depends on the contents alone: not on the order, the sources' seeds nor the run's. Problems that share a
    metadata["group"] (one sum asked in two languages) are chosen one after the other, and if some of a group are held
    out, none of it is trained on. Of problems that ask the same question (whatever their task's name or answer) only
    the one with the smallest id is kept, so no held-out question can be trained on.
    """
    kept: dict[str, Problem] = {}
    for problem in problems:
        question = same_question(problem)
        if question not in kept or problem.id < kept[question].id:
            kept[question] = problem
    unique = list(kept.values())
    duplicates = len(problems) - len(unique)
    ranked = sorted(unique, key=_heldout_rank)
    chosen = {_group(problem) for problem in ranked[:heldout]}
    train = [problem for problem in unique if _group(problem) not in chosen]
    if not train:
        raise UserError(f"data.heldout_problems={heldout} leaves nothing to train on: the sources hold "
                        f"{len(unique)} different problems ({duplicates} duplicates removed); enlarge size "
                        "or lower heldout_problems")
    return Split(train=train, heldout=ranked[:heldout], duplicates=duplicates)


def same_question(problem: Problem) -> str:
    """What two problems share that ask the same, whatever their white space."""
    return " ".join(problem.question.split())


def _group(problem: Problem) -> str:
    return problem.metadata.get("group", problem.id)


def _heldout_rank(problem: Problem) -> tuple[str, str]:
    return hashlib.sha256(f"heldout {_group(problem)}".encode()).hexdigest(), problem.id

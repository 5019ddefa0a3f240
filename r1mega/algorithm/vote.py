"""cons@k: the answer most samples of a problem agree on."""

from collections import Counter
from collections.abc import Callable, Sequence
from typing import NamedTuple

TIE_RULE = "of answers with equally many votes, the one that was sampled first"


class Winner(NamedTuple):
    """What a vote chose: the class, and how many samples were for it."""

    label: int
    votes: int


def answer_classes(answers: Sequence[str | None], same: Callable[[int, int], bool]) -> list[int | None]:
    """The class of each answer: the index of the first answer it equals; None has none.

    `same(i, j)`, i < j, says whether answers i and j are one answer in two forms. An answer is compared with the first
    of each class only, the classes in the order in which they came up: an equality that is not transitive (that of a
    computer algebra system is not) then still gives the same classes every time.
    """
    firsts: list[int] = []
    classes: list[int | None] = []
    for index, answer in enumerate(answers):
        if answer is None:
            classes.append(None)
            continue
        known = next((first for first in firsts if answers[first] == answer or same(first, index)), None)
        if known is None:
            firsts.append(index)
        classes.append(index if known is None else known)
    return classes


def majority(classes: Sequence[int | None]) -> Winner | None:
    """The class with the most votes; ties as TIE_RULE says. None, a sample without an answer, has no vote; without any
    vote there is no winner."""
    votes = Counter(label for label in classes if label is not None)
    if not votes:
        return None
    label = min(votes, key=lambda one: (-votes[one], one))
    return Winner(label, votes[label])

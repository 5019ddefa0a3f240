"""Texts that say the same twice."""

from r1mega.data.ngrams import ngrams, words


class Distinct:
    """Texts that are new among those taken before. Two are one if they share more than `max_overlap` of their n-grams
    of words (Jaccard: shared / all different ones); of a text of fewer than `n` words all of them count as one."""

    def __init__(self, n: int, max_overlap: float):
        self._n, self._max_overlap = n, max_overlap
        self._texts: set[str] = set()
        self._taken: list[frozenset[tuple[str, ...]]] = []

    def take(self, text: str) -> str | None:
        """None for a new text, which is taken; else why it is not: "duplicate" or "near_duplicate"."""
        same = " ".join(text.split())
        if same in self._texts:
            return "duplicate"
        found = words(text)
        grams = frozenset(ngrams(found, self._n)) or frozenset([tuple(found)])
        if any(_jaccard(grams, other) > self._max_overlap for other in self._taken):
            return "near_duplicate"
        self._texts.add(same)
        self._taken.append(grams)
        return None


def _jaccard(one: frozenset, other: frozenset) -> float:
    shared = len(one & other)
    return shared / (len(one) + len(other) - shared)

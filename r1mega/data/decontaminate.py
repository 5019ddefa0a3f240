"""Which texts have words of an evaluation problem in them."""

from collections import Counter
from collections.abc import Iterable, Sequence

from r1mega.data.ngrams import ngrams, words

PHRASE = 5  # words in a row that many training questions share are how problems are put, not what one of them asks
MANY, MANY_SHARE = 10, 1e-3  # more questions than this, and more than this share of them


class EvaluationNgrams:
    """n-grams of words of evaluation problems: one of them in a text makes it contaminated (arXiv 2005.14165, appendix
    C).

    At least half of an n-gram's words have to be the problem's own: of questions that come from one form ("State the
    final answer to the following arithmetic problem: …") all would be one otherwise. Texts of fewer than `n` words,
    and those with too few words of their own, are looked for as a whole among questions, by `is_asked`, and not inside
    of longer texts: "3 + 4" is part of many solutions.
    """

    def __init__(self, texts: Iterable[str], n: int, train_questions: Sequence[str] = ()):
        """`texts`: questions and solutions to stay clear of; `train_questions`: every one, to see how they are put."""
        self._n = n
        found = [words(text) for text in texts]
        self._whole = {tuple(text) for text in found}
        phrases = _many_times(found, [words(question) for question in train_questions], min(PHRASE, n))
        self._grams = {gram for text in found for gram in _own(text, n, phrases, min(PHRASE, n))}

    def __len__(self) -> int:
        """How many n-grams there are."""
        return len(self._grams)

    def shares(self, text: str) -> bool:
        """Whether a text has an n-gram of an evaluation problem in it. Linear in its length."""
        return not self._grams.isdisjoint(ngrams(words(text), self._n))

    def is_asked(self, question: str) -> bool:
        """Whether a question is an evaluation problem, word by word, or has an n-gram of one in it."""
        return tuple(words(question)) in self._whole or self.shares(question)


def _many_times(texts: Sequence[list[str]], train: Sequence[list[str]], size: int) -> frozenset[tuple[str, ...]]:
    """Runs of `size` words of `texts` that many training questions have too."""
    known = {gram for text in texts for gram in ngrams(text, size)}
    often: Counter[tuple[str, ...]] = Counter()
    for question in train:
        often.update(known.intersection(ngrams(question, size)))
    many = max(MANY, MANY_SHARE * len(train))
    return frozenset(gram for gram, count in often.items() if count > many)


def _own(text: list[str], n: int, phrases: frozenset[tuple[str, ...]], size: int) -> Iterable[tuple[str, ...]]:
    """The n-grams of which at least half of the words are in no such phrase."""
    is_own = [True] * len(text)
    for at, gram in enumerate(ngrams(text, size)):
        if gram in phrases:
            is_own[at:at + size] = [False] * size
    own_before = [0]
    for own in is_own:
        own_before.append(own_before[-1] + own)
    return (gram for at, gram in enumerate(ngrams(text, n)) if 2 * (own_before[at + n] - own_before[at]) >= n)

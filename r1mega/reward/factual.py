"""Is a short factual answer right? The rules of SQuAD's and DROP's evaluations: exact match and F1 of words.

Rajpurkar et al. (arXiv 1606.05250, section 6.1): lower case, without punctuation, articles and extra white space. An
answer is compared with each accepted one, and the best counts.
"""

import math
import re
import unicodedata
from collections import Counter
from collections.abc import Sequence

ARTICLES = frozenset({"a", "an", "the"})
THOUSANDS = re.compile(r"(?<=\d),(?=\d{3}(?!\d))")
NUMBER = re.compile(r"[+-]?\d+(?:\.\d+)?")


def normal_words(text: str) -> list[str]:
    """The words of an answer in the form in which they are compared. Numbers keep their point and sign and lose what
    groups their digits: 1,000.50 is 1000.5."""
    folded = THOUSANDS.sub("", unicodedata.normalize("NFKC", text).casefold())
    words = []
    for word in folded.split():
        bare = word.strip("$€£%.,;:!?\"'()[]{}")
        if NUMBER.fullmatch(bare):
            words.append(_number(bare))
            continue
        kept = "".join(" " if character in "-–—/" else character for character in word
                       if character in "-–—/" or not unicodedata.category(character).startswith(("P", "S")))
        words += kept.split()
    return [word for word in words if word not in ARTICLES]


def is_exact_match(accepted: Sequence[str], answer: str) -> bool:
    """Whether the words are those of an accepted answer. An answer without words (only articles) is never right."""
    words = normal_words(answer)
    return bool(words) and any(words == normal_words(one) for one in accepted)


def word_f1(accepted: Sequence[str], answer: str) -> float:
    """The harmonic mean of precision and recall of words, the best over the accepted answers, in [0, 1]."""
    return max((_f1(Counter(normal_words(one)), Counter(normal_words(answer))) for one in accepted), default=0.0)


def _f1(expected: Counter[str], given: Counter[str]) -> float:
    shared = (expected & given).total()
    return 2 * shared / (expected.total() + given.total()) if shared else 0.0


def _number(text: str) -> str:
    value = float(text)
    return f"{value:.12g}" if math.isfinite(value) else text

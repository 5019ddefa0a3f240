"""Words of a text, also in scripts that set no spaces between them."""

from collections.abc import Iterator
from typing import NamedTuple

import regex
from icu4py.breakers import WordBreaker

from r1mega.reward.language.scripts import SPACELESS, family_of

LONGEST_RUN = 1000  # letters without a space handed to ICU at a time
# Not words of any language, though they look like it
SYMBOLS = frozenset((  # noqa: SIM905 (words are read more easily so)
    "sin cos tan cot sec csc sinh cosh tanh arcsin arccos arctan log ln lg exp lim max min sup inf det dim ker mod "
    "gcd lcm deg arg sqrt floor ceil cm mm km kg mg ml hz").split())

_SPACELESS = rf"[{SPACELESS}][{SPACELESS}\p{{M}}]*+"
_SPACED = rf"[[\p{{L}}\p{{M}}\p{{N}}_]--[{SPACELESS}]]++"
_TOKEN = regex.compile(rf"(?P<run>{_SPACELESS})|(?P<word>{_SPACED}(?:['’-]{_SPACED})*+(?P<call>\(\))?)"
                       r"|(?P<end>[.!?;:。।؟\n]++(?!\d))|(?P<comma>[,،、()\u2013\u2014]++(?!\d))", regex.VERSION1)
_SYLLABLE = regex.compile(r"\p{Hangul}")  # alone can be a word, as no other letter of spaced scripts is here
_NO_WORD = regex.compile(r"[\p{N}_]|\p{Ll}\p{Lu}")  # x1, is_prime, isPrime


class Word(NamedTuple):
    """A word, the family of its script ("" for none of ours), and what stands before it: 0 for another word of its
    clause, 1 for a comma, 2 for the end of a sentence."""

    text: str
    family: str
    boundary: int


def words(text: str) -> Iterator[Word]:
    """The words of prose in order. Numbers, single letters of alphabets, names of functions and variables are none."""
    boundary = 2
    families: dict[str, str] = {}
    for match in _TOKEN.finditer(text):
        if match["end"] or match["comma"]:
            boundary = max(boundary, 2 if match["end"] else 1)
            continue
        parts = _cut(match["run"]) if match["run"] else [] if match["call"] else _plain(match["word"])
        for part in parts:
            if part not in families:
                families[part] = family_of(part)
            yield Word(part, families[part], boundary)
            boundary = 0


def _plain(word: str) -> list[str]:
    """A hyphen joins words (x-axis: one word is left); an apostrophe belongs to its word."""
    parts = [part for part in word.split("-") if len(part) > 1 or _SYLLABLE.fullmatch(part)]
    return [part for part in parts if not _NO_WORD.search(part) and part.lower() not in SYMBOLS]


def _cut(run: str) -> Iterator[str]:
    """Words of a run of letters without spaces, by ICU's dictionaries (Chinese, Japanese, Thai, Lao, Khmer, Burmese).
    """
    for start in range(0, len(run), LONGEST_RUN):
        yield from WordBreaker(run[start:start + LONGEST_RUN], "en")

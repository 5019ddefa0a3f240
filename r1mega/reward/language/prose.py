"""What of a text is prose: without its formulas, code and addresses.

A policy that is paid for its language finds every place that is not looked at, and would think there. So what stands
between marks of formulas and code is left out only if it does not read as prose: nowhere four words (six letters of a
script without spaces) in a row, also across neighbouring formulas. In blocks of code, words of programming do not count
for that.
"""

from bisect import bisect_left
from collections.abc import Iterator
from itertools import groupby
from typing import NamedTuple

import regex

from r1mega.reward.language.scripts import SPACELESS

CLOSERS = {"```": "```", "`": "`", "$$": "$$", "$": "$", "\\(": "\\)", "\\[": "\\]", "\\begin": "\\end"}
LONGEST_INLINE = 1000  # characters between one pair of $ or `; beyond, they are signs like any other
KEYWORDS = frozenset((  # noqa: SIM905 (words are read more easily so)
    "and as assert async await begin bool break case catch char class const continue def del do double elif else end "
    "except export extends false final finally float fn for foreach from func function global goto if impl import in "
    "include int is lambda let list long match mut new nil none nonlocal not null or pass print private public raise "
    "return select self set short static str string struct switch then this throw true try type typedef unsigned use "
    "using var void where while with yield").split())

_MARK = regex.compile(r"```|`|\$\$|\$|\\[()\[\]]|\\begin\{[^{}\n]{0,40}\}|\\end\{[^{}\n]{0,40}\}")
_COMMAND = regex.compile(r"\\(?:begin|end)\{[^{}\n]{0,40}\}|\\[A-Za-z]+\*?|[{}]|</?[A-Za-z][A-Za-z0-9]{0,9}/?>")
_ADDRESS = regex.compile(r"(?:https?://|www\.)[!-~]*+|[\w.+-]{1,64}+@[\w-]++\.[!-~]+", regex.ASCII)
_WORD = regex.compile(r"[\p{L}\p{M}]{2,}+")
_GAP = regex.compile(r"[\s,.;:!?'’\"-]*+")
_BARE = regex.compile(r"[\p{L}\p{M}\s,.;:!?'’\"-]*+")
_SPACELESS_RUN = regex.compile(rf"(?:[{SPACELESS}][\s\p{{P}}]*+){{6}}")
WORDS_IN_A_ROW = 4


class Piece(NamedTuple):
    """A stretch of text, and how it is marked: "" (not at all), "formula" or "code"."""

    text: str
    kind: str


def prose(text: str) -> str:
    """The prose of `text`; what is left out is a space, or the end of a line for a block of code."""
    kept, formula = [], []
    for piece in _pieces(text):
        if piece.kind == "formula":
            formula.append(_COMMAND.sub(" ", piece.text))
            continue
        if piece.kind == "" and not piece.text.strip():  # nothing between two formulas
            kept.append(piece.text)
            continue
        kept.append(_if_prose(" ".join(formula)))
        formula = []
        if piece.kind == "code":
            kept.append("\n".join(["", *_prose_of_code(piece.text), ""]))
        else:
            kept.append(_COMMAND.sub(" ", _ADDRESS.sub(" ", piece.text)))
    kept.append(_if_prose(" ".join(formula)))
    return "".join(kept)


def reads_as_prose(text: str, keywords: frozenset[str] = frozenset()) -> bool:
    """Whether four words follow one another with only white space and punctuation between, `keywords` not counted; or
    six letters of a script without spaces."""
    if _SPACELESS_RUN.search(text):
        return True
    row, end = 0, -1
    for match in _WORD.finditer(text):
        gap_end = _GAP.match(text, end).end() if end >= 0 else -1
        if gap_end < match.start():
            row = 0
        row += match.group().lower() not in keywords
        if row >= WORDS_IN_A_ROW:
            return True
        end = match.end()
    return False


def _prose_of_code(text: str) -> Iterator[str]:
    """Lines of code that are sentences, and neighbouring lines of nothing but words that are one together."""
    for is_bare, group in groupby(text.splitlines(), key=lambda line: _BARE.fullmatch(line) is not None):
        lines = list(group)
        stretches = ["\n".join(lines)] if is_bare else lines
        yield from (stretch for stretch in stretches if reads_as_prose(stretch, KEYWORDS))


def _if_prose(text: str) -> str:
    return f" {text} " if reads_as_prose(text) else " " if text else ""


def _pieces(text: str) -> Iterator[Piece]:
    """`text` cut at its marks. A mark without its partner is plain text, but for ```, which then holds to the end."""
    marks = [(match.start(), match.end(), match.group().partition("{")[0]) for match in _MARK.finditer(text)]
    places: dict[str, list[int]] = {}
    for index, (_, _, mark) in enumerate(marks):
        places.setdefault(mark, []).append(index)
    done = index = 0
    while index < len(marks):
        start, end, mark = marks[index]
        partner = _partner(marks, places, index)
        if mark not in CLOSERS or (partner is None and mark != "```"):
            index += 1
            continue
        yield Piece(text[done:start], "")
        inside, done = (marks[partner][0], marks[partner][1]) if partner is not None else (len(text), len(text))
        yield Piece(text[end:inside], "code" if mark == "```" else "formula")
        index = partner + 1 if partner is not None else len(marks)
    yield Piece(text[done:], "")


def _partner(marks: list[tuple[int, int, str]], places: dict[str, list[int]], index: int) -> int | None:
    """The number of the mark that closes mark number `index`; None if there is none."""
    _, end, mark = marks[index]
    numbers = places.get(CLOSERS.get(mark, ""), [])
    at = bisect_left(numbers, index + 1)
    if at == len(numbers) or (mark in ("$", "`") and marks[numbers[at]][0] - end > LONGEST_INLINE):
        return None
    return numbers[at]

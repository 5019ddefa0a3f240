"""Words of any text, and what is made of n of them in a row."""

from collections.abc import Iterator, Sequence

import regex

# Scripts that set no spaces between words: a character is a word. (Hangul does set them.)
_SPACELESS = r"\p{Han}\p{Hiragana}\p{Katakana}\u30FC\p{Thai}\p{Lao}\p{Khmer}\p{Myanmar}\p{Tibetan}"
_WORD = regex.compile(rf"[{_SPACELESS}]\p{{M}}*+|[[\p{{L}}\p{{M}}\p{{N}}]--[{_SPACELESS}]]++|[\p{{S}}*/^%-]",
                      regex.VERSION1)


def words(text: str) -> list[str]:
    """Its words in lower case; signs of arithmetic count, punctuation does not. A character of a script without spaces
    is a word."""
    return _WORD.findall(text.lower())


def ngrams(found: Sequence[str], n: int) -> Iterator[tuple[str, ...]]:
    """All runs of `n` words; none of a shorter text."""
    return zip(*(found[at:] for at in range(n)), strict=False)

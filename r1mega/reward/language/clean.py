"""Text as its reader sees it, whatever code points it is written with."""

import unicodedata

import regex

_INVISIBLE = regex.compile(r"\p{Cf}|\p{Variation_Selector}")
# Their vowel "am" is one letter to every dictionary, but two in compatibility form
_NORMAL = regex.compile(r"[^\p{Thai}\p{Lao}]++")
_STACKED = regex.compile(r"(\p{M}{4})\p{M}++")


def as_seen(text: str) -> str:
    """`text` in compatibility form (full-width and styled letters become plain ones), without lone surrogates,
    invisible characters and all but four of the marks on one letter. Time is linear in the length: the marks are cut
    first, since Unicode's normal forms sort them."""
    text = text.encode("utf-8", "replace").decode()
    text = _STACKED.sub(r"\1", _INVISIBLE.sub("", text))
    text = _NORMAL.sub(lambda match: unicodedata.normalize("NFKC", match.group()), text)
    return _STACKED.sub(r"\1", text)

"""Which script a word is written in, and which languages are written in it.

Languages that share a script are one family: within a family the words decide (see identify.py), between families the
script does.
"""

from collections.abc import Mapping

import regex

# As Unicode's scripts; the long vowel mark of kana belongs to no script of its own.
SPACELESS = r"\p{Han}\p{Hiragana}\p{Katakana}\u30FC\p{Thai}\p{Lao}\p{Khmer}\p{Myanmar}\p{Tibetan}"

# Family: its languages (ISO 639-1), those that may be told from one another. Serbian is meant in Cyrillic.
FAMILIES: Mapping[str, tuple[str, ...]] = {
    "latin": ("en", "de", "fr", "es", "it", "pt", "nl", "sv", "da", "no", "fi", "pl", "cs", "hu", "ro", "tr", "vi",
              "id"),
    "cyrillic": ("ru", "uk", "bg", "sr", "be", "kk"),
    "arabic": ("ar", "fa", "ur"),
    "devanagari": ("hi", "mr", "ne"),
    "east asian": ("zh", "ja"),
    "hangul": ("ko",),
    "thai": ("th",),
    "greek": ("el",),
    "hebrew": ("he",),
    "bengali": ("bn",),
    "tamil": ("ta",),
    "telugu": ("te",),
}
FAMILY_OF = {language: family for family, languages in FAMILIES.items() for language in languages}

_LETTERS = {"east asian": r"\p{Han}\p{Hiragana}\p{Katakana}\u30FC"}
_PATTERNS = {family: regex.compile(rf"[{_LETTERS.get(family, rf'\p{{{family.title()}}}')}\p{{M}}'’-]+")
             for family in FAMILIES}


def family_of(word: str) -> str:
    """The family whose script all letters of `word` are in; "" for another script, or a mixture (a Latin word with a
    Cyrillic letter in it is a word of no language)."""
    for family, pattern in _PATTERNS.items():
        if pattern.fullmatch(word):
            return family
    return ""

"""The "did you mean" of an error message."""

import difflib
from collections.abc import Iterable


def did_you_mean(word: str, legal: Iterable[str], shown: int = 12) -> str:
    """A phrase to end an error with: the nearest legal word, or the legal ones where they are few."""
    words = sorted(legal)
    close = difflib.get_close_matches(word, words, n=1, cutoff=0.6)
    if close:
        return f"did you mean {close[0]!r}?"
    if len(words) <= shown:
        return "legal: " + (", ".join(words) or "none")
    return f"legal: {', '.join(words[:shown])} and {len(words) - shown} more"

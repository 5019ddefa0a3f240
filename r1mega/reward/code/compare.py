"""Is an output the expected one? Compared outside the sandbox, on plain data that a program has no hold on."""

import json
import math
import re
from itertools import zip_longest
from typing import Any

RELATIVE, ABSOLUTE = 1e-6, 1e-9  # between decimal fractions
FRACTION = re.compile(r"[-+]?\d{1,40}\.\d{1,40}(?:[eE][-+]?\d{1,3})?", re.ASCII)


class NotJson(Exception):
    """A reply that is no JSON, or holds what JSON cannot."""


def is_same_output(expected: str, found: str) -> bool:
    """Equal line by line, but for white space at the ends of lines and empty lines at the end.

    Where an expected word is a decimal fraction, a number within 1e-6 of it (relative) will do.
    """
    ours, theirs = (text.rstrip().split("\n") for text in (expected, found))
    return len(ours) == len(theirs) and all(
        a.rstrip() == b.rstrip() or _is_same_words(a.split(), b.split()) for a, b in zip(ours, theirs, strict=True))


def read_json(line: bytes) -> Any:
    """The value in a line that a program wrote. Raises NotJson."""
    try:
        return json.loads(line.decode())
    except (ValueError, RecursionError) as error:  # not JSON, not UTF-8, nested too deeply, an endless integer
        raise NotJson(f"{type(error).__name__}") from None


def is_same_value(expected: Any, found: Any) -> bool:
    """Equal JSON values. true is not 1; 2 is 2.0; fractions may differ by 1e-6 (relative); not a number equals nothing.

    Without recursion: a program may nest its answer as deep as the parser allows.
    """
    waiting = [(expected, found)]
    while waiting:
        ours, theirs = waiting.pop()
        if isinstance(ours, bool) or isinstance(theirs, bool) or not isinstance(ours, int | float):
            if type(ours) is not type(theirs):
                return False
        elif not (isinstance(theirs, int | float) and _is_same_number(ours, theirs)):
            return False
        else:
            continue
        if isinstance(ours, list):
            if len(ours) != len(theirs):
                return False
            waiting += zip(ours, theirs, strict=True)
        elif isinstance(ours, dict):
            if ours.keys() != theirs.keys():
                return False
            waiting += [(value, theirs[key]) for key, value in ours.items()]
        elif ours != theirs:
            return False
    return True


def _is_same_number(ours: float, theirs: float) -> bool:
    if isinstance(ours, int) and isinstance(theirs, int):
        return ours == theirs
    try:
        return math.isclose(ours, theirs, rel_tol=RELATIVE, abs_tol=ABSOLUTE)
    except OverflowError:  # an integer beyond any float
        return False


def _is_same_words(ours: list[str], theirs: list[str]) -> bool:
    return all(a == b or (a is not None and b is not None and _is_same_fraction(a, b))
               for a, b in zip_longest(ours, theirs))


def _is_same_fraction(expected: str, found: str) -> bool:
    if not FRACTION.fullmatch(expected) or len(found) > 100:
        return False
    try:
        return _is_same_number(float(expected), float(found))
    except ValueError:
        return False

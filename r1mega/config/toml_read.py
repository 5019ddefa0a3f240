"""tomllib's reader, without the values it lets through that nothing later could print or walk."""

import tomllib
from typing import Any

MAX_DEPTH = 32  # far deeper than any recipe
MAX_INTEGER = 2**63  # TOML's own: integers are of 64 bits


def read_toml(text: str) -> dict[str, Any]:
    """The tree of a TOML text. Raises tomllib.TOMLDecodeError, whatever is wrong with it."""
    try:
        tree = tomllib.loads(text)
    except tomllib.TOMLDecodeError:
        raise
    except RecursionError:
        raise tomllib.TOMLDecodeError("lists or tables nested too deeply") from None
    except ValueError:  # Python's own limit on the digits of a number
        raise tomllib.TOMLDecodeError("a number of thousands of digits") from None
    open_values = [(tree, 0)]
    while open_values:
        value, depth = open_values.pop()
        if depth > MAX_DEPTH:
            raise tomllib.TOMLDecodeError("lists or tables nested too deeply")
        if isinstance(value, int) and not -MAX_INTEGER <= value < MAX_INTEGER:
            raise tomllib.TOMLDecodeError("a whole number of more than 64 bits")
        inside = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
        open_values += [(item, depth + 1) for item in inside]
    return tree

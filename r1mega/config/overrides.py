"""`key=value` words of the command line."""

import re
import tomllib
from dataclasses import dataclass
from typing import Any

from r1mega.config.error import UserError
from r1mega.config.toml_lines import KeyPath

_WORD = re.compile(r"""[^\s"'\[\]{}=,#][^"'\[\]{}\n#]*\Z""")


@dataclass(frozen=True, slots=True)
class Override:
    """One word, read. `value` None means: back to the default (`key=none`)."""

    text: str
    path: KeyPath
    value: Any


def parse_override(text: str) -> Override:
    """Read `a.b.0.c=VALUE`: VALUE in TOML's syntax, or a bare word, which is text. Raises UserError."""
    if text.startswith("-"):
        raise UserError(f"command line: {text}: overrides have no dashes; write {text.lstrip('-') or 'key=value'}")
    key, equals, value = text.partition("=")
    key, value = key.strip(), value.strip()
    if not equals:
        raise UserError(f"command line: {text}: not an override; write key=value, e.g. optimizer.lr=3e-6")
    parts = key.split(".")
    if not all(re.fullmatch(r"[A-Za-z0-9_-]+", part) for part in parts):
        raise UserError(f"command line: {text}: '{key}' is not a dotted key; write e.g. optimizer.lr=3e-6")
    path = tuple(int(part) if part.isdecimal() else part for part in parts)
    return Override(text, path, _value(text, key, value))


def _value(text: str, key: str, value: str) -> Any:
    if value == "none":
        return None
    try:
        tree = tomllib.loads(f"value = {value}")
    except tomllib.TOMLDecodeError:
        tree = {}
    if set(tree) == {"value"}:
        return tree["value"]
    if _WORD.match(value):
        return value
    raise UserError(f"command line: {text}: {value or 'nothing'} is not a value; write a number, true, a word, "
                    f"[1, 2] or '{key}=\"some text\"'")

"""`key=value` words of the command line."""

import re
import tomllib
from dataclasses import dataclass
from typing import Any

from r1mega.config.error import UserError
from r1mega.config.toml_lines import KeyPath
from r1mega.config.toml_read import read_toml

_WORD = re.compile(r"""[^\s"'\[\]{}=,#][^"'\[\]{}\n#]*\Z""")
_NUMBER = re.compile(r"[+-]?(?:\d{19,}|0x[0-9a-fA-F]{16,}|0o[0-7]{21,}|0b[01]{63,})\Z")  # too large for TOML


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
    try:
        text.encode()
    except UnicodeEncodeError:
        raise UserError(f"command line: {ascii(text)[1:-1]}: is not UTF-8; type it in a UTF-8 terminal, or write the "
                        "value in a recipe file") from None
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
        tree = read_toml(f"value = {value}")
    except tomllib.TOMLDecodeError:
        tree = {}
    if set(tree) == {"value"}:
        return tree["value"]
    if _WORD.match(value) and not _NUMBER.match(value):
        return value
    shown = value if len(value) <= 60 else f"{value[:57]}..."
    raise UserError(f"command line: {key}={shown}: {shown or 'nothing'} is not a value; write a number (of 64 bits), "
                    f"true, a word, [1, 2] or '{key}=\"some text\"'")

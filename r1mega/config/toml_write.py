"""Writes a tree of plain values as TOML, with an optional comment after each value."""

import json
import re
from collections.abc import Callable, Mapping
from datetime import date, time
from typing import Any

KeyPath = tuple[str | int, ...]
_BARE = re.compile(r"[A-Za-z0-9_-]+\Z")


def toml_value(value: Any) -> str:
    """One value on one line; the reader gives back the same value and type."""
    match value:
        case bool():
            return "true" if value else "false"
        case int():
            return str(value)
        case float():
            return repr(value)
        case str():
            return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
        case date() | time():
            return value.isoformat()
        case list() | tuple():
            return "[" + ", ".join(toml_value(item) for item in value) + "]"
        case Mapping():
            pairs = (f"{_key(name)} = {toml_value(item)}" for name, item in value.items() if item is not None)
            return "{" + ", ".join(pairs) + "}"
    raise TypeError(f"TOML has no form for {type(value).__name__}")


def toml_text(tree: Mapping[str, Any], comment: Callable[[KeyPath], str] | None = None) -> str:
    """The whole text. None is left out (TOML has no such value); `comment(path)` may name a value's origin."""
    lines = _table(tree, (), "", comment)
    return "\n".join(lines).strip("\n") + "\n"


def _table(tree: Mapping[str, Any], path: KeyPath, header: str, comment) -> list[str]:
    lines, tables = [], []
    for name, value in tree.items():
        here = (*path, name)
        if isinstance(value, Mapping):
            tables.append((here, value))
        elif isinstance(value, list) and value and all(isinstance(item, Mapping) for item in value):
            tables.extend(((*here, index), item) for index, item in enumerate(value))
        elif value is not None:
            note = f"  # {comment(here)}" if comment else ""
            lines.append(f"{_key(name)} = {toml_value(value)}{note}")
    if header and (lines or not tables or header.startswith("[[")):
        lines = ["", header, *lines]
    for here, value in tables:
        lines += _table(value, here, _header(here), comment)
    return lines


def _header(path: KeyPath) -> str:
    dotted = ".".join(_key(name) for name in path if isinstance(name, str))
    return f"[[{dotted}]]" if isinstance(path[-1], int) else f"[{dotted}]"


def _key(name: str) -> str:
    return name if _BARE.match(name) else toml_value(name)

"""On which line of a TOML text each key is set (the standard library's reader does not say)."""

import re

KeyPath = tuple[str | int, ...]

_VALUE_TOKEN = re.compile(
    r'"""(?:[^\\]|\\.)*?"{3,5}' r"|'''.*?'{3,5}" r'|"(?:[^"\\\n]|\\.)*"' r"|'[^'\n]*'" r"|#[^\n]*|[\[{]|[\]}]|\n|.",
    re.DOTALL)
_KEY_PART = re.compile(r"""[ \t]*(?:"((?:[^"\\]|\\.)*)"|'([^']*)'|([A-Za-z0-9_-]+))[ \t]*""")
_BLANK = re.compile(r"(?:\s|#[^\n]*)*")


def key_lines(text: str) -> dict[KeyPath, int]:
    """Line (from 1) of each key and table header of a text that `tomllib` accepts.

    Array-of-table elements have their index in the path. Keys inside an inline table are not listed: take the
    nearest listed ancestor.
    """
    lines: dict[KeyPath, int] = {}
    table: KeyPath = ()
    last_index: dict[KeyPath, int] = {}
    position = _BLANK.match(text, 0).end()
    while position < len(text):
        line = text.count("\n", 0, position) + 1
        if text[position] == "[":
            is_array = text.startswith("[[", position)
            names, position = _key(text, position + 1 + is_array)
            position += 1 + is_array
            table = _through_arrays(names, last_index, is_array)
            lines.setdefault(table, line)
        else:
            names, position = _key(text, position)
            path = table
            for name in names:
                path += (name,)
                lines.setdefault(path, line)
            position = _end_of_value(text, position + 1)
        position = _BLANK.match(text, position).end()
    return lines


def _key(text: str, position: int) -> tuple[tuple[str, ...], int]:
    names = []
    while True:
        part = _KEY_PART.match(text, position)
        quoted, literal, bare = part.groups()
        names.append(next(name for name in (quoted, literal, bare) if name is not None))
        position = part.end()
        if text[position] != ".":
            return tuple(names), position
        position += 1


def _through_arrays(names: tuple[str, ...], last_index: dict[KeyPath, int], is_array: bool) -> KeyPath:
    """The path a header speaks of: through the newest element of every array of tables on the way."""
    path: KeyPath = ()
    for depth, name in enumerate(names):
        path += (name,)
        if is_array and depth == len(names) - 1:
            last_index[path] = last_index.get(path, -1) + 1
        if path in last_index:
            path += (last_index[path],)
    return path


def _end_of_value(text: str, position: int) -> int:
    depth = 0
    while position < len(text):
        token = _VALUE_TOKEN.match(text, position).group()
        if token == "\n" and depth == 0:
            return position
        depth += (token in "[{") - (token in "]}")
        position += len(token)
    return position

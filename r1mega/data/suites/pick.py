"""One field of a row, by its dotted name."""

from collections.abc import Mapping
from typing import Any

from r1mega.config.error import UserError
from r1mega.data.suggest import did_you_mean


def pick(row: Any, name: str, role: str, origin: str) -> Any:
    """The value at `name`; `a.b` of a list a is the list of its elements' b. A field with dots in its own name comes
    first. Raises UserError that names the row and `fields.<role>`."""
    if isinstance(row, Mapping) and name in row:
        return row[name]
    head, _, rest = name.partition(".")
    if not isinstance(row, Mapping) or head not in row or not rest:
        there = did_you_mean(head, map(str, row)) if isinstance(row, Mapping) else f"found {type(row).__name__}"
        raise UserError(f"{origin}: no field {name!r} (fields.{role}={name!r}); {there}")
    inner = row[head]
    if isinstance(inner, list):
        return [pick(element, rest, role, origin) for element in inner]
    return pick(inner, rest, role, origin)


def pick_text(row: Any, name: str, role: str, origin: str) -> str:
    """As `pick`, a text or a number as text; neither empty nor only white space."""
    return as_text(pick(row, name, role, origin), f"{origin}: field {name!r} (fields.{role})")


def as_text(value: Any, where: str) -> str:
    """A text, or a number as text. Raises UserError for anything else, and for one without a character."""
    if isinstance(value, int | float) and not isinstance(value, bool):
        value = str(value)
    if not isinstance(value, str):
        raise UserError(f"{where}: is {type(value).__name__}, not text or a number")
    if not value.strip():
        raise UserError(f"{where}: is empty")
    return value


def pick_texts(row: Any, name: str, role: str, origin: str) -> list[str]:
    """As `pick`, one text or a list of them (of lists, all their texts), without repetitions."""
    flat: list[Any] = []
    open_values = [pick(row, name, role, origin)]
    while open_values:
        value = open_values.pop(0)
        if isinstance(value, list):
            open_values = value + open_values
        else:
            flat.append(value)
    where = f"{origin}: field {name!r} (fields.{role})"
    if not flat:
        raise UserError(f"{where}: has no element")
    return list(dict.fromkeys(as_text(value, where) for value in flat))

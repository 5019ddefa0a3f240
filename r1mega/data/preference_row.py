"""One row of a table, read as a judgement: which of two replies is the better one, or whether a reply is safe."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from r1mega.config.error import UserError
from r1mega.config.preference import PreferenceFields
from r1mega.data.characters import readable
from r1mega.data.suggest import did_you_mean

Kind = Literal["pairwise", "pointwise"]


@dataclass(frozen=True, slots=True)
class Judgement:
    """Pairwise: `replies` are the chosen and the rejected one, `safe` is None. Pointwise: one reply and its label."""

    id: str  # the row's own, or 16 hex digits of SHA-256 over its contents
    source: str
    prompt: str
    replies: tuple[str, ...]
    safe: bool | None
    origin: str  # "pairs.jsonl:17"

    @property
    def questions(self) -> list[str]:
        """As `same_question` has it: white space evened out."""
        return [" ".join(self.prompt.split())]

    @property
    def said(self) -> tuple[str, ...]:
        """What two judgements share that are one."""
        return (self.prompt, *self.replies, str(self.safe))


def judgement(prompt: str, replies: tuple[str, ...], safe: bool | None, source: str, origin: str) -> Judgement:
    content = json.dumps([source, prompt, replies, safe], ensure_ascii=True)
    return Judgement(hashlib.sha256(content.encode()).hexdigest()[:16], source, prompt, replies, safe, origin)


def row_to_judgement(row: Any, fields: PreferenceFields, kind: Kind, source: str, origin: str) -> Judgement:
    """The judgement of one row. `origin` starts every error. Raises UserError."""
    columns = ["prompt", "chosen", "rejected"] if kind == "pairwise" else ["prompt", "response"]
    if not isinstance(row, Mapping):
        example = ", ".join(f'"{getattr(fields, column)}": …' for column in columns)
        raise UserError(f"{origin}: expected an object such as {{{example}}}, found {_kind(row)}")
    prompt, *replies = (_text(row, column, getattr(fields, column), origin) for column in columns)
    if kind == "pairwise" and replies[0] == replies[1]:
        raise UserError(f"{origin}: {fields.chosen!r} and {fields.rejected!r} are the same text, so neither is better; "
                        "remove this row")
    made = judgement(prompt, tuple(replies), None if kind == "pairwise" else _label(row, fields.safe, origin), source,
                     origin)
    given = row.get(fields.id)
    if given is None:
        return made
    if isinstance(given, bool) or not isinstance(given, str | int) or given == "":
        raise UserError(f"{origin}: field {fields.id!r} is {_kind(given)}; an id is text or a whole number, or left "
                        "out")
    return Judgement(str(given), source, prompt, tuple(replies), made.safe, origin)


def _label(row: Mapping[str, Any], column: str, origin: str) -> bool:
    value = _value(row, "safe", column, origin)
    if value in (0, 1) and isinstance(value, bool | int):
        return bool(value)
    raise UserError(f"{origin}: field {column!r} is {_kind(value)}; legal: true, false, 1, 0")


def _text(row: Mapping[str, Any], role: str, column: str, origin: str) -> str:
    value = _value(row, role, column, origin)
    if not isinstance(value, str):
        raise UserError(f"{origin}: field {column!r} is {_kind(value)}; it must be text")
    if not value.strip():
        raise UserError(f"{origin}: field {column!r} is empty; fill or remove this row")
    return readable(value, column, origin)


def _value(row: Mapping[str, Any], role: str, column: str, origin: str) -> Any:
    if row.get(column) is None:
        there = "is null" if column in row else "is missing"
        raise UserError(f"{origin}: field {column!r} {there} (fields.{role}); set fields.{role}; "
                        f"{did_you_mean(column, map(str, row))}")
    return row[column]


def _kind(value: Any) -> str:
    match value:
        case None:
            return "null"
        case bool() | int() | float():
            return f"{value}"
        case str():
            return f"the text {value[:20]!r}"
        case list() | tuple():
            return "a list"
        case Mapping():
            return "an object"
    return f"a {type(value).__name__}"

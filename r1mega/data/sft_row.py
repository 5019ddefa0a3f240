"""One row of a table, read as a demonstration: a conversation whose assistant turns are to be learned."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from r1mega.config.error import UserError
from r1mega.config.sft import SampleFields
from r1mega.data.characters import readable
from r1mega.data.suggest import did_you_mean

ROLES = ("system", "user", "assistant")


@dataclass(frozen=True, slots=True)
class Demonstration:
    """A conversation; `turns` are (question, response) pairs, `system` what is said before the first."""

    id: str  # the row's own, or 16 hex digits of SHA-256 over its contents
    source: str
    turns: tuple[tuple[str, str], ...]
    origin: str  # "samples.jsonl:17"
    system: str = ""

    @property
    def questions(self) -> list[str]:
        """As `same_question` has them: white space evened out."""
        return [" ".join(question.split()) for question, _ in self.turns]

    @property
    def said(self) -> tuple[str, ...]:
        """What two demonstrations share that are one."""
        return (self.system, *(text for turn in self.turns for text in turn))


def row_to_demonstration(row: Any, fields: SampleFields, source: str, origin: str) -> Demonstration:
    """The demonstration of one row. `origin` starts every error. Raises UserError."""
    if not isinstance(row, Mapping):
        raise UserError(f'{origin}: expected an object such as {{"{fields.prompt}": …, "{fields.response}": …}}, found '
                        f"{_kind(row)}")
    system, turns = _turns(_messages(row, fields, origin), origin)
    label = row.get(fields.source) if fields.source else None
    label = source if label is None else _name(label, fields.source, origin)
    given = row.get(fields.id)
    if given is None:
        content = json.dumps([label, system, turns], ensure_ascii=True)
        given = hashlib.sha256(content.encode()).hexdigest()[:16]
    elif isinstance(given, bool) or not isinstance(given, str | int) or given == "":
        raise UserError(f"{origin}: field {fields.id!r} is {_kind(given)}; an id is text or a whole number, or left "
                        "out")
    return Demonstration(str(given), label, turns, origin, system)


def _messages(row: Mapping[str, Any], fields: SampleFields, origin: str) -> list[tuple[str, str]]:
    """(role, text) of every message."""
    if row.get(fields.messages) is not None:
        return _list_of_messages(row[fields.messages], fields.messages, origin)
    for role, column in (("prompt", fields.prompt), ("response", fields.response)):
        if row.get(column) is None:
            there = "is null" if column in row else "is missing"
            raise UserError(f"{origin}: field {column!r} {there} (fields.{role}), and there is no {fields.messages!r} "
                            f"either; set fields.{role}; {did_you_mean(column, map(str, row))}")
    prompt = row[fields.prompt]
    before = [("user", _text(prompt, fields.prompt, origin))] if isinstance(prompt, str) else \
        _list_of_messages(prompt, fields.prompt, origin)
    return [*before, ("assistant", _text(row[fields.response], fields.response, origin))]


def _list_of_messages(value: Any, column: str, origin: str) -> list[tuple[str, str]]:
    if not isinstance(value, Sequence) or isinstance(value, str) or not value:
        raise UserError(f"{origin}: field {column!r} is {_kind(value)}; it must be a list of "
                        '{"role": "user", "content": …}')
    messages = []
    for number, message in enumerate(value):
        where = f"{column}[{number}]"
        if not isinstance(message, Mapping) or "role" not in message or "content" not in message:
            raise UserError(f'{origin}: {where} is no {{"role": …, "content": …}}; write it so')
        if message["role"] not in ROLES:
            raise UserError(f"{origin}: {where}: role={message['role']!r}; legal: {', '.join(ROLES)}")
        messages.append((message["role"], _text(message["content"], f"{where}.content", origin)))
    return messages


def _turns(messages: Sequence[tuple[str, str]], origin: str) -> tuple[str, tuple[tuple[str, str], ...]]:
    """The system message (first if at all), and questions and responses in turn."""
    roles = [role for role, _ in messages]
    system = messages[0][1] if roles[0] == "system" else ""
    rest = messages[1:] if system else messages
    if [role for role, _ in rest] != ["user", "assistant"] * (len(rest) // 2) or not rest:
        raise UserError(f"{origin}: the roles are {', '.join(roles)}; after an optional system message user and "
                        "assistant take turns, and the assistant has the last word")
    return system, tuple((rest[at][1], rest[at + 1][1]) for at in range(0, len(rest), 2))


def _name(value: Any, column: str, origin: str) -> str:
    text = _text(value, column, origin)
    return "".join(c if c.isascii() and (c.isalnum() or c in "._-") else "-" for c in text)[:40]


def _text(value: Any, what: str, origin: str) -> str:
    if not isinstance(value, str):
        raise UserError(f"{origin}: field {what!r} is {_kind(value)}; it must be text")
    if not value.strip():
        raise UserError(f"{origin}: field {what!r} is empty; fill or remove this row")
    return readable(value, what, origin)


def _kind(value: Any) -> str:
    match value:
        case None:
            return "null"
        case bool() | int() | float():
            return f"{value}"
        case str():
            return "text" if value else "an empty text"
        case list() | tuple():
            return "a list" if value else "an empty list"
        case Mapping():
            return "an object"
    return f"a {type(value).__name__}"

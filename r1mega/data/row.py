"""One row of a table, read as a problem."""

import math
from collections.abc import Mapping
from typing import Any, get_args

from r1mega.config.data import Fields
from r1mega.config.error import UserError
from r1mega.config.rl import Language
from r1mega.data.characters import readable
from r1mega.data.code_tests import name_of_tests, read_tests
from r1mega.data.suggest import did_you_mean
from r1mega.record import Problem


def row_to_problem(row: Any, fields: Fields, scorer: str, task: str, origin: str) -> Problem:
    """The problem of one row. A question is text; an answer is text or a number. Scorer "code" has tests instead,
    "preference" nothing.

    `origin` ("problems.jsonl:17") starts every error and is kept as metadata["origin"].
    """
    if not isinstance(row, Mapping):
        raise UserError(f"{origin}: expected an object such as {{\"{fields.question}\": …, "
                        f"\"{fields.answer}\": …}}, found {_kind(row)}")
    question = _text(row, "question", fields.question, origin)
    told = _language(row, fields, origin)
    if scorer == "code":
        tests = {"origin": origin, **told, **read_tests(row, fields, origin)}
        return Problem(task=task, question=question, answer=name_of_tests(tests), scorer=scorer, metadata=tests)
    answer = "" if scorer == "preference" else _text(row, "answer", fields.answer, origin)
    return Problem(task=task, question=question, answer=answer, scorer=scorer, metadata={"origin": origin, **told})


def _language(row: Mapping[str, Any], fields: Fields, origin: str) -> dict[str, str]:
    """The language to reason in as metadata, where the source has a column for it."""
    if fields.language is None:
        return {}
    language = _text(row, "language", fields.language, origin)
    if language not in get_args(Language):
        raise UserError(f"{origin}: field {fields.language!r} is {language!r}, which is none of the languages that can "
                        f"be told apart; {did_you_mean(language, get_args(Language), shown=len(get_args(Language)))}")
    return {"language": language}


def _text(row: Mapping[str, Any], role: str, column: str, origin: str) -> str:
    if column not in row:
        raise UserError(f"{origin}: no field {column!r} (fields.{role}={column!r}); set fields.{role}; "
                        f"{did_you_mean(column, map(str, row))}")
    value = row[column]
    if role == "answer" and isinstance(value, int | float) and not isinstance(value, bool):
        if not math.isfinite(value):
            raise UserError(f"{origin}: field {column!r} is {value}, and no answer can equal that; give a number or "
                            "text, or remove this row")
        value = str(value)
    if not isinstance(value, str):
        legal = "text or a number" if role == "answer" else "text"
        raise UserError(f"{origin}: field {column!r} is {_kind(value)}; fields.{role} must name a field with "
                        f"{legal}")
    if not value.strip():
        raise UserError(f"{origin}: field {column!r} is empty; every problem needs a {role}: fill or remove "
                        "this row")
    return readable(value, column, origin)


def _kind(value: Any) -> str:
    match value:
        case None:
            return "null"
        case bool():
            return f"a boolean ({value})"
        case int() | float():
            return f"a number ({value})"
        case str():
            return "text"
        case list() | tuple():
            return "a list"
        case Mapping():
            return "an object"
    return f"a {type(value).__name__}"

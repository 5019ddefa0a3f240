"""Multiple choice: the options in an order of their own, and the letter of the right one."""

import hashlib
from string import ascii_uppercase
from typing import Any, NamedTuple

from r1mega.config.error import UserError
from r1mega.config.suite import SuiteFields
from r1mega.data.suites.pick import as_text, pick, pick_text


class Options(NamedTuple):
    """What is shown, in order, and which of it is right."""

    texts: tuple[str, ...]
    right: int

    @property
    def letter(self) -> str:
        return ascii_uppercase[self.right]

    @property
    def shown(self) -> str:
        """A line an option: "A. four"."""
        return "\n".join(f"{letter}. {text}" for letter, text in zip(ascii_uppercase, self.texts, strict=False))


def read_options(row: Any, fields: SuiteFields, origin: str) -> Options:
    """The options as the row has them. Raises UserError."""
    if fields.options is None:
        right = pick_text(row, fields.answer, "answer", origin)
        wrong = [pick_text(row, name, "wrong", origin) for name in fields.wrong]
        return _checked(Options((right, *wrong), 0), origin)
    where = f"{origin}: field {fields.options!r} (fields.options)"
    listed = pick(row, fields.options, "options", origin)
    if not isinstance(listed, list):
        raise UserError(f"{where}: is not a list; for one field an option, use fields.wrong")
    texts = tuple(as_text(text, where).strip() for text in listed)
    return _checked(Options(texts, _right_one(row, fields, texts, origin)), origin)


def shuffled(options: Options, seed: int, key: str) -> Options:
    """The options ordered by a hash of (seed, problem, option): the same on every machine and in every version.

    A model that always says A, or that knows the published order, gains nothing by it.
    """
    order = sorted(range(len(options.texts)), key=lambda index: hashlib.sha256(
        f"{seed}\0{key}\0{options.texts[index]}".encode()).digest())
    return Options(tuple(options.texts[index] for index in order), order.index(options.right))


def _right_one(row: Any, fields: SuiteFields, texts: tuple[str, ...], origin: str) -> int:
    value = pick(row, fields.answer, "answer", origin)
    where = f"{origin}: field {fields.answer!r} (fields.answer)={value!r}"
    match fields.answer_is:
        case "index":
            known = type(value) is int or (isinstance(value, str) and value.isdecimal())
            index = int(value) if known else -1
        case "letter":
            index = ascii_uppercase.find(value.strip()) if isinstance(value, str) and len(value.strip()) == 1 else -1
        case "text":
            index = texts.index(value.strip()) if isinstance(value, str) and value.strip() in texts else -1
    if not 0 <= index < len(texts):
        raise UserError(f"{where}: is none of the {len(texts)} options as fields.answer_is={fields.answer_is!r} says; "
                        "set fields.answer_is")
    return index


def _checked(options: Options, origin: str) -> Options:
    texts = tuple(text.strip() for text in options.texts)
    if not 2 <= len(texts) <= len(ascii_uppercase):
        raise UserError(f"{origin}: has {len(texts)} options; a choice has 2 to {len(ascii_uppercase)}")
    if texts.count(texts[options.right]) > 1:
        raise UserError(f"{origin}: the right option {texts[options.right][:40]!r} is there twice; mend this row")
    return Options(texts, options.right)

"""What the recipe's schema says of a key: which keys a table has, what values are legal, which key was meant."""

import difflib
import types
from collections.abc import Iterator
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import annotated_types
from pydantic.fields import FieldInfo

from r1mega.config.recipe import Recipe
from r1mega.config.section import Section
from r1mega.config.toml_lines import KeyPath


def members(annotation: Any) -> list[Any]:
    """The types a value may have: unions taken apart, Annotated unwrapped, None left out."""
    if get_origin(annotation) is Annotated:
        return members(get_args(annotation)[0])
    if get_origin(annotation) in (Union, types.UnionType):
        return [member for arg in get_args(annotation) for member in members(arg) if member is not type(None)]
    return [annotation]


def child(annotation: Any, name: str | int, data: Any) -> FieldInfo | Any | None:
    """The field or type at `name` inside a value of the type `annotation`; None if there is no such key.

    Among sections told apart by `kind`, `data` (the table itself) decides.
    """
    for member in members(annotation):
        if isinstance(member, type) and issubclass(member, Section):
            if name in member.model_fields and _kind_fits(member, data):
                return member.model_fields[name]
        elif get_origin(member) is list and isinstance(name, int):
            return get_args(member)[0]
        elif get_origin(member) is dict and isinstance(name, str):
            return get_args(member)[1]
    return None


def section_at(path: KeyPath, data: Any) -> list[type[Section]]:
    """The section classes that the table at `path` may be (several only while its `kind` is not known)."""
    annotation: Any = Recipe
    for name in path:
        found = child(annotation, name, data)
        if found is None:
            return []
        annotation = found.annotation if isinstance(found, FieldInfo) else found
        data = step(data, name)
    sections = [m for m in members(annotation) if isinstance(m, type) and issubclass(m, Section)]
    return [s for s in sections if _kind_fits(s, data)] or sections


def field_at(path: KeyPath, data: Any) -> FieldInfo | Any | None:
    """The field (or the bare element type) at `path`; None if the schema has no such key."""
    annotation: Any = Recipe
    found: Any = Recipe
    for name in path:
        found = child(annotation, name, data)
        if found is None:
            return None
        annotation = found.annotation if isinstance(found, FieldInfo) else found
        data = step(data, name)
    return found


def step(data: Any, name: str | int) -> Any:
    """`data[name]`, or None where there is nothing."""
    if isinstance(data, dict):
        return data.get(name)
    if isinstance(data, list) and isinstance(name, int) and name < len(data):
        return data[name]
    return None


def legal(found: FieldInfo | Any) -> str:
    """The legal values in a few words: "a number > 0", "one of 'constant', 'cosine'"."""
    annotation = found.annotation if isinstance(found, FieldInfo) else found
    bounds = " and ".join(_bound(item) for item in getattr(found, "metadata", []) if _bound(item))
    kinds = " or ".join(dict.fromkeys(_kind(member) for member in members(annotation)))
    return f"{kinds} {bounds}".strip()


def all_keys(section: type[Section] = Recipe, above: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """Every dotted key of the schema, list elements written as "0"."""
    for name, info in section.model_fields.items():
        path = (*above, name)
        yield path
        for member in members(info.annotation):
            inner, below = (get_args(member)[0], (*path, "0")) if get_origin(member) is list else (member, path)
            for part in members(inner):
                if isinstance(part, type) and issubclass(part, Section):
                    yield from all_keys(part, below)


def meant(path: KeyPath, data: Any) -> str | None:
    """The key the user may have meant by an unknown one: near it, or of the same name elsewhere."""
    name = str(path[-1])
    siblings = {field for section in section_at(path[:-1], data) for field in section.model_fields}
    near = difflib.get_close_matches(name, sorted(siblings), n=1, cutoff=0.7)
    if near:
        return near[0]
    known = list(all_keys())
    given = tuple(map(str, path))
    same = [".".join(key) for key in known if key[-1] == name and not _same_place(key, given)]
    if same:
        return difflib.get_close_matches(".".join(map(str, path)), same, n=1, cutoff=0.0)[0]
    short = {key[-1]: ".".join(key) for key in reversed(known)}
    near = difflib.get_close_matches(name, sorted(set(short) - {name}), n=1, cutoff=0.75)
    return short[near[0]] if near else None


def other_kinds(path: KeyPath, data: Any) -> list[str]:
    """The kinds of the table around `path` that do have this key (the table's own kind does not)."""
    return [section.model_fields["kind"].default for section in section_at(path[:-1], {})
            if path[-1] in section.model_fields and "kind" in section.model_fields]


def _same_place(key: tuple[str, ...], given: tuple[str, ...]) -> bool:
    """The same key but for the numbers of list elements."""
    return [part for part in key if not part.isdecimal()] == [part for part in given if not part.isdecimal()]


def _kind_fits(section: type[Section], data: Any) -> bool:
    kind = section.model_fields.get("kind")
    given = data.get("kind") if isinstance(data, dict) else None
    return kind is None or given is None or given in get_args(kind.annotation)


def _kind(member: Any) -> str:
    if get_origin(member) is Literal:
        return "one of " + ", ".join(f'"{choice}"' for choice in get_args(member))
    if get_origin(member) is list:
        return "a list of " + _plural(_kind(members(get_args(member)[0])[0]))
    if get_origin(member) is dict or (isinstance(member, type) and issubclass(member, Section)):
        return "a table"
    return {int: "a whole number", float: "a number", str: "text in quotes", bool: "true or false"}.get(
        member, "any value")


def _plural(kind: str) -> str:
    return {"a table": "tables", "text in quotes": "texts in quotes", "a number": "numbers",
            "a whole number": "whole numbers"}.get(kind, kind)


def _bound(item: Any) -> str:
    match item:
        case annotated_types.Ge(ge=value):
            return f">= {value}"
        case annotated_types.Gt(gt=value):
            return f"> {value}"
        case annotated_types.Le(le=value):
            return f"<= {value}"
        case annotated_types.Lt(lt=value):
            return f"< {value}"
        case annotated_types.MinLen(min_length=value):
            return f"with at least {value} element{'s' if value > 1 else ''}"
    if getattr(item, "pattern", None):
        return "of letters, digits and . _ - (a letter or digit first)"
    return ""

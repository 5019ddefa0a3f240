"""pydantic's errors, said in a recipe's own words: file, line, key, value, what is legal, the likely fix."""

import difflib
from typing import Any, get_args

from pydantic import ValidationError

from r1mega.config.error import Mistake, UserError
from r1mega.config.keys import field_at, legal, meant, members, other_kinds, section_at, step
from r1mega.config.layers import Layers
from r1mega.config.origin import shown
from r1mega.config.toml_lines import KeyPath
from r1mega.config.toml_write import toml_value

_WRONG_TYPE = {
    "int_type", "int_from_float", "float_type", "string_type", "bool_type", "list_type", "dict_type", "model_type",
    "model_attributes_type", "int_parsing", "float_parsing",
}


def explain(error: ValidationError, layers: Layers) -> list[Mistake]:
    """One Mistake for each thing wrong, with full dotted keys; unknown keys first."""
    unknown, rest, misspelt = [], [], set()
    for detail in error.errors():
        path = _real_path(detail["loc"], layers.data)
        if detail["type"] == "extra_forbidden":
            near = meant(path, layers.data)
            misspelt.add((*path[:-1], near))
            unknown.append(_unknown_key(path, near, layers.data))
        else:
            rest.append((path, detail))
    kept = [_mistake(path, detail, layers.data) for path, detail in rest
            if not (detail["type"] == "missing" and path in misspelt)]
    return unknown + kept


def raise_mistakes(mistakes: list[Mistake], layers: Layers, recipe_file) -> None:
    """Raise one UserError of at most two lines; nothing happens when the list is empty."""
    if not mistakes:
        return
    lines = [_line(mistake, layers, recipe_file) for mistake in mistakes[:2]]
    if len(mistakes) > 2:
        lines[1] += f" (and {len(mistakes) - 2} more)"
    raise UserError("\n".join(lines))


def _line(mistake: Mistake, layers: Layers, recipe_file) -> str:
    path = tuple(int(part) if part.isdecimal() else part for part in mistake.key.split("."))
    origin = layers.origin(path)
    where = shown(recipe_file)
    if origin is not None and origin.file is not None:
        where = str(origin)
    elif origin is not None:
        where = f"{shown(recipe_file)}, command line"
    value: Any = layers.data
    for name in path:
        value = step(value, name)
    given = "" if value is None or isinstance(value, dict) else f"={_short(value)}"
    return " ".join(f"{where}: {mistake.key}{given}: {mistake.text}".split())


def _mistake(path: KeyPath, detail: dict, data: dict) -> Mistake:
    key = ".".join(map(str, path))
    kind, found = detail["type"], field_at(path, data)
    allowed = legal(found) if found is not None else ""
    if kind == "missing":
        return Mistake(key, f"is missing; legal: {allowed}; add it {_place(path)}")
    if kind in ("union_tag_invalid", "union_tag_not_found"):
        choices = [s.model_fields["kind"].default for s in section_at(path, {})]
        given = detail["input"].get("kind") if isinstance(detail["input"], dict) else None
        problem = "is missing" if given is None else "is not a kind of " + str(path[-2])
        return Mistake(f"{key}.kind", f"{problem}; use {_one_of(choices)}{_hint(given, choices)}")
    if kind == "literal_error":
        choices = [c for m in members(getattr(found, "annotation", found)) for c in get_args(m)]
        return Mistake(key, f"is not legal; use {allowed}{_hint(detail['input'], choices)}")
    if kind in _WRONG_TYPE:
        fix = _type_fix(path, detail["input"], allowed)
        return Mistake(key, f"is {_type_name(detail['input'])}, not {allowed}{fix}")
    if kind == "value_error" and isinstance(detail["ctx"]["error"], Mistake):
        inner = detail["ctx"]["error"]
        return Mistake(f"{key}.{inner.key}" if key else inner.key, inner.text)
    if allowed:
        return Mistake(key, f"is out of range; use {allowed}")
    return Mistake(key, f"{detail['msg']}; see `r1mega show --schema`")


def _unknown_key(path: KeyPath, near: str | None, data: dict) -> Mistake:
    key = ".".join(map(str, path))
    names = sorted({name for section in section_at(path[:-1], data) for name in section.model_fields})
    above = f"[{'.'.join(map(str, path[:-1]))}]" if len(path) > 1 else "a recipe"
    legal_names = f"; {above} has {', '.join(names)}" if len(names) <= 12 else ""
    kinds = other_kinds(path, data)
    if kinds:
        return Mistake(key, f"only kind = {' or '.join(map(repr, kinds))} has this key{legal_names}; take it out, or "
                            "change kind")
    if near is None:
        return Mistake(key, f"unknown key{legal_names}; take it out or see `r1mega show --schema`")
    if "." not in near and near not in names:
        return Mistake(key, f"unknown key of {above}; did you mean the recipe's own '{near}'? "
                            "put it above the first [table]")
    return Mistake(key, f"unknown key; did you mean '{near}'?{legal_names}")


def _real_path(loc: tuple, data: Any) -> KeyPath:
    """pydantic puts a union's tag into the location; a path of ours has only keys."""
    path: KeyPath = ()
    for name in loc:
        inside = isinstance(data, dict) and name not in data and data.get("kind") == name
        if not inside:
            path += (name,)
            data = step(data, name)
    return path


def _place(path: KeyPath) -> str:
    if len(path) == 1:
        return "at the top of the file, above the first [table]" if path[0] in ("stage", "name") else \
            f"as a section [{path[0]}]"
    return f"under [{'.'.join(str(name) for name in path[:-1])}]"


def _one_of(choices: list[str]) -> str:
    return "one of " + ", ".join(f'"{choice}"' for choice in choices)


def _hint(given: Any, choices: list) -> str:
    words = [choice for choice in choices if isinstance(choice, str)]
    close = difflib.get_close_matches(str(given).lower(), words, n=1, cutoff=0.5)
    return f"; did you mean \"{close[0]}\"?" if close else ""


def _type_name(value: Any) -> str:
    names = {bool: "true or false", int: "a whole number", float: "a fraction", str: "text", list: "a list",
             dict: "a table"}
    return names.get(type(value), type(value).__name__)


def _type_fix(path: KeyPath, value: Any, allowed: str) -> str:
    name = path[-1]
    if isinstance(value, str) and allowed.startswith(("a number", "a whole")):
        try:
            float(value)
        except ValueError:
            return f"; write a bare number, e.g. {name} = {'100' if allowed.startswith('a whole') else '1e-3'}"
        return f"; take the quotes away: {name} = {value}"
    if isinstance(value, str) and value.lower() in ("true", "false"):
        return f"; write {name} = {value.lower()}, without quotes and in lower case"
    if allowed.startswith("text"):
        return f"; write {name} = \"{value}\"" if not isinstance(value, (dict, list)) else f"; write {name} = \"…\""
    if isinstance(value, float) and value.is_integer():
        return f"; write {name} = {int(value)}"
    if allowed.startswith("a list of tables"):
        return f"; write [[{'.'.join(map(str, path))}]] above its keys"
    if allowed.startswith("a list"):
        return f"; write {name} = [{_short(value)}]"
    if allowed.startswith("a table"):
        return f"; write [{'.'.join(map(str, path))}] above its keys"
    return f"; write {name} = {'true' if allowed.startswith('true') else '1'}"


def _short(value: Any) -> str:
    try:
        text = toml_value(value)
    except TypeError:
        text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."

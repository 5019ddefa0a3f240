"""A recipe's values before they are checked: files laid over their parents, overrides over files.

A recipe file may name one parent by a top-level `extends`, and each section one by its own `extends`, a file that
holds just that section's keys. A section with its own parent takes nothing from the recipe's parent.
"""

import copy
import difflib
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from r1mega.config.error import UserError
from r1mega.config.keys import field_at
from r1mega.config.origin import Origin, shown
from r1mega.config.overrides import Override
from r1mega.config.paths import path_problem
from r1mega.config.toml_lines import KeyPath, key_lines
from r1mega.config.toml_read import read_toml

NOT_INHERITED = ("name",)  # two recipes must not share a run folder because one extends the other


@dataclass
class Layers:
    """Plain values, and the origin of every key (tables too)."""

    data: dict[str, Any]
    origins: dict[KeyPath, Origin]

    def origin(self, path: KeyPath) -> Origin | None:
        """Where the value at `path`, or the nearest table around it, was set; None if nowhere."""
        for end in range(len(path), 0, -1):
            if path[:end] in self.origins:
                return self.origins[path[:end]]
        return None

    def drop(self, path: KeyPath) -> None:
        """Take a key away with all below it; nothing happens if it is not there."""
        holder = _walk(self.data, path[:-1])
        if isinstance(holder, dict) and path[-1] in holder:
            del holder[path[-1]]
        for known in [p for p in self.origins if p[: len(path)] == path]:
            del self.origins[known]

    def lay(self, path: KeyPath, value: Any, origins: dict[KeyPath, Origin]) -> None:
        """Put a value over what is there: tables merge key by key, anything else replaces."""
        holder = _walk(self.data, path[:-1])
        if isinstance(value, dict) and isinstance(_walk(holder, path[-1:]), dict):
            for name, item in value.items():
                self.lay((*path, name), item, origins)
            return
        self.drop(path)
        holder[path[-1]] = copy.deepcopy(value)
        self.origins.update({p: o for p, o in origins.items() if p[: len(path)] == path})


def read_layers(file: Path, children: tuple[Path, ...] = ()) -> Layers:
    """A recipe file with all its parents under it. Raises UserError."""
    own = _read(file, children)
    parent = _parent_name(own, file)
    unset = own.data.pop("unset", [])
    layers = Layers({}, {})
    if parent is not None:
        layers = read_layers(parent, (*children, file.resolve()))
        for name in NOT_INHERITED:
            layers.drop((name,))
    for name, value in own.data.items():
        _lay_section_parent(layers, own, name, value, file)
    for key in _unset_keys(own, unset):
        path = tuple(key.split("."))
        if _walk(layers.data, path) is None:
            raise UserError(f"{own.origins[('unset',)]}: unset: the parents do not set '{key}'; "
                            "take it out of the list")
        layers.drop(path)
    for name, value in own.data.items():
        layers.lay((name,), value, own.origins)
    return layers


def apply_override(layers: Layers, override: Override) -> None:
    """Lay one `key=value` over the rest; `section.extends=FILE` replaces the whole section by that file's keys."""
    path, value = override.path, override.value
    origin = Origin(override=override.text)
    if len(path) == 2 and path[1] == "extends":
        if not isinstance(value, str):
            raise UserError(f"command line: {override.text}: extends names a file; write {path[0]}.extends=FILE.toml")
        section = _read_section(Path(value), path[0], origin)
        layers.drop(path[:1])
        layers.lay(path[:1], section.data[path[0]], section.origins)
        return
    if path[0] in ("extends", "unset"):
        raise UserError(f"command line: {override.text}: a recipe's {path[0]} cannot be overridden; "
                        "give another recipe, or override its keys one by one")
    if value is None:
        _take_out(layers, override)
        return
    _make_tables(layers, override, origin)
    holder = _walk(layers.data, path[:-1])
    if isinstance(holder, list):
        holder[path[-1]] = value
        layers.origins[path] = origin
    else:
        layers.drop(path)
        layers.lay(path, value, {path: origin})


def _take_out(layers: Layers, override: Override) -> None:
    """`key=none`: back to the default."""
    path, dotted = override.path, ".".join(map(str, override.path))
    if isinstance(path[-1], int):
        raise UserError(f"command line: {override.text}: an element of a list has no default to go back to; "
                        f"write the whole list in a recipe file, or change its keys, e.g. {dotted}.size=100")
    if field_at(path, layers.data) is None:
        raise UserError(f"command line: {override.text}: unknown key; see `r1mega show --schema`")
    layers.drop(path)


def _make_tables(layers: Layers, override: Override, origin: Origin) -> None:
    """Make sure the table (or list element) that holds the override's key is there."""
    for end in range(1, len(override.path)):
        path = override.path[:end]
        here = _walk(layers.data, path)
        key = override.path[end]
        dotted = ".".join(map(str, path))
        if here is None:
            if not isinstance(_walk(layers.data, path[:-1]), dict):
                break
            layers.lay(path, {}, {path: origin})
        elif isinstance(here, list):
            if not isinstance(key, int) or key >= len(here):
                raise UserError(f"command line: {override.text}: {dotted} is a list of {len(here)}; "
                                f"write a number from 0 to {len(here) - 1} after it, e.g. {dotted}.0")
        elif not isinstance(here, dict):
            raise UserError(f"command line: {override.text}: {dotted} is a single value and has no key '{key}'; "
                            f"write {dotted}=VALUE")


def _lay_section_parent(layers: Layers, own: Layers, name: str, value: Any, file: Path) -> None:
    if not isinstance(value, dict) or "extends" not in value:
        return
    parent, origin = value.pop("extends"), own.origins[(name, "extends")]
    if not isinstance(parent, str):
        raise UserError(f"{origin}: {name}.extends: not a file's name; write extends = \"../models/tiny.toml\"")
    section = _read_section(file.parent / parent, name, origin)
    layers.drop((name,))
    layers.lay((name,), section.data[name], section.origins)


def _read_section(file: Path, name: str, origin: Origin, children: tuple[Path, ...] = ()) -> Layers:
    """A file that holds one section's keys, as a tree with that section alone."""
    own = _read(file, children, origin, f"{name}.extends")
    if isinstance(own.data.get(name), dict) and "stage" in own.data:
        raise UserError(f"{origin}: {name}.extends={shown(file)}: that file is a whole recipe; "
                        f"name one that holds just the keys of [{name}], e.g. from configs/")
    parent = _parent_name(own, file)
    layers = Layers({name: {}}, {(name,): origin})
    if parent is not None:
        layers = _read_section(parent, name, origin, (*children, file.resolve()))
    origins = {(name, *path): at for path, at in own.origins.items()}
    layers.lay((name,), own.data, origins)
    return layers


def _parent_name(own: Layers, file: Path) -> Path | None:
    parent = own.data.pop("extends", None)
    if parent is None:
        return None
    origin = own.origins[("extends",)]
    if not isinstance(parent, str):
        raise UserError(f"{origin}: extends={parent!r}: a file has one parent; write extends = \"base.toml\"")
    target = file.parent / parent
    _refuse_no_path(target, f"{origin}: extends: ")
    if not target.is_file():
        raise UserError(f"{origin}: extends=\"{parent}\": no such file, looked for {shown(target)}"
                        f"{_file_hint(target)}")
    return target


def _unset_keys(own: Layers, unset: Any) -> list[str]:
    if isinstance(unset, list) and all(isinstance(key, str) for key in unset):
        return unset
    raise UserError(f"{own.origins[('unset',)]}: unset: not a list of dotted keys; write unset = [\"model.yarn\"]")


def _read(file: Path, children: tuple[Path, ...] = (), origin: Origin | None = None, key: str = "") -> Layers:
    where = f"{origin}: {key}: " if origin else ""
    _refuse_no_path(file, where)
    if file.resolve() in children:
        chain = " -> ".join(shown(path) for path in (*children, file))
        raise UserError(f"{shown(children[-1])}: extends goes in a circle: {chain}; let one of them have no parent")
    if file.is_dir():
        raise UserError(f"{where}{shown(file)}: is a folder; name a recipe file in it, e.g. {shown(file)}/zero.toml")
    if not file.is_file():
        raise UserError(f"{where}{shown(file)}: no such file{_file_hint(file)}")
    try:
        text = file.read_bytes().decode("utf-8-sig").replace("\r\n", "\n")
        data = read_toml(text)
    except UnicodeDecodeError as error:
        raise UserError(f"{where}{shown(file)}: byte {error.start} is not UTF-8; save the file as UTF-8 text") from None
    except tomllib.TOMLDecodeError as error:
        raise UserError(_syntax_error(file, text, error)) from None
    except OSError as error:
        raise UserError(f"{where}{shown(file)}: cannot be read: {error.strerror}; check its permissions") from None
    lines = key_lines(text)
    origins = {path: Origin(file, lines.get(path)) for path in lines}
    return Layers(data, origins)


def _syntax_error(file: Path, text: str, error: tomllib.TOMLDecodeError) -> str:
    message = str(error)
    line = message.partition("(at line ")[2].partition(",")[0]
    what, at, _ = message.partition(" (at ")
    if not at:
        return f"{shown(file)}: is not a recipe ({what}); take that value out"
    number = int(line) if line.isdecimal() else text.count("\n") + 1
    content = (text.split("\n") + [""])[number - 1].strip()[:60]
    if "overwrite" in what or "twice" in what or "redefine" in what.lower():
        fix = "the same key or table is there twice; keep one"
    else:
        fix = 'write key = value; text needs "quotes", true and false are lower case, a table is [name]'
    return f"{shown(file)}:{number}: `{content}` is not TOML ({what}); {fix}"


def _refuse_no_path(file: Path, where: str) -> None:
    problem = path_problem(str(file))
    if problem:
        raise UserError(f"{where}{ascii(str(file))[:60]}: {problem}")


def _file_hint(file: Path) -> str:
    """A nearby file the user may have meant."""
    folder = file.parent
    if not folder.is_dir():
        return f"; the folder {shown(folder)} is not there either, check the path"
    names = sorted(path.name for path in folder.glob("*.toml"))
    close = difflib.get_close_matches(file.name, names, n=1) or [n for n in names if n == f"{file.name}.toml"]
    if close:
        return f"; did you mean {shown(folder / close[0])}?"
    return f"; there are {', '.join(names[:8])}" if names else f"; {shown(folder)} has no .toml file, check the path"


def _walk(data: Any, path: KeyPath) -> Any:
    for name in path:
        in_list = isinstance(data, list) and isinstance(name, int) and name < len(data)
        if not in_list and not (isinstance(data, dict) and name in data):
            return None
        data = data[name]
    return data

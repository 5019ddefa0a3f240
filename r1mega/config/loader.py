"""From a TOML file and overrides to a checked, frozen Recipe that knows where each value came from."""

import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError
from pydantic.fields import FieldInfo

from r1mega.config.check import check_files, check_recipe, check_start
from r1mega.config.error import Mistake, UserError
from r1mega.config.explain import explain, raise_mistakes
from r1mega.config.keys import child
from r1mega.config.layers import Layers, apply_override, read_layers
from r1mega.config.origin import DEFAULT, Origin, shown
from r1mega.config.overrides import parse_override
from r1mega.config.paths import path_problem
from r1mega.config.recipe import Recipe
from r1mega.config.section import RelativePath
from r1mega.config.toml_lines import KeyPath
from r1mega.config.toml_write import toml_text


@dataclass(frozen=True)
class Resolved:
    """A recipe and the origin of each of its values."""

    recipe: Recipe
    layers: Layers

    def origin(self, path: KeyPath) -> Origin:
        """The file and line, the override or the default that `path` has its value from."""
        value: Any = self.layers.data
        for name in path:
            try:
                value = value[name]
            except (KeyError, IndexError, TypeError):
                return DEFAULT
        return self.layers.origin(path) or DEFAULT


def load_recipe(path: str | Path, overrides: Sequence[str] = ()) -> Recipe:
    """Read a recipe with its parents and `key=value` overrides, and check all of it. Raises UserError."""
    return resolve_recipe(path, overrides).recipe


def resolve_recipe(path: str | Path, overrides: Sequence[str] = (), *, files: bool = True) -> Resolved:
    """As `load_recipe`, with the origins. `files=False` does not ask whether the files it names are there."""
    return _resolve(Path(path), overrides, files, ())


def dump_recipe(resolved: Recipe | Resolved) -> str:
    """The recipe as TOML that reads back equal; of a Resolved, each value with its origin as a comment."""
    if isinstance(resolved, Recipe):
        return toml_text(resolved.model_dump())
    return toml_text(resolved.recipe.model_dump(), comment=lambda path: str(resolved.origin(path)))


def recipe_name(path: Path) -> str:
    """The run's name where the recipe has none: its path below a folder `configs`, e.g. tiny-zero."""
    parts = path.resolve().with_suffix("").parts
    below = parts[len(parts) - parts[::-1].index("configs"):] if "configs" in parts[:-1] else parts[-1:]
    return re.sub(r"[^A-Za-z0-9._-]", "-", "-".join(below)).lstrip("._-") or "run"


def _resolve(path: Path, overrides: Sequence[str], files: bool, starts_above: tuple[Path, ...]) -> Resolved:
    layers = read_layers(path)
    for text in overrides:
        apply_override(layers, parse_override(text))
    layers.data = {"name": recipe_name(path)} | layers.data
    raise_mistakes(list(_make_absolute(layers, Recipe, layers.data, ())), layers, path)
    try:
        recipe = Recipe.model_validate(layers.data)
    except ValidationError as error:
        raise_mistakes(explain(error, layers), layers, path)
        raise
    mistakes = list(check_recipe(recipe))
    if files:
        mistakes += check_files(recipe)
    raise_mistakes(mistakes, layers, path)
    if files and recipe.start.recipe is not None:
        raise_mistakes(_check_start_recipe(recipe, (*starts_above, path.resolve())), layers, path)
    return Resolved(recipe, layers)


def _check_start_recipe(recipe: Recipe, above: tuple[Path, ...]) -> list[Mistake]:
    """A recipe that starts from another must name one that is right by itself and trains the same model."""
    target = Path(recipe.start.recipe)
    if target.resolve() in above:
        return [Mistake("start.recipe", f"{shown(target)} starts from this one in turn; name a recipe that starts from "
                                        "random weights or a model folder")]
    try:
        start = _resolve(target, (), True, above).recipe
    except UserError as error:
        return [Mistake("start.recipe", f"cannot be loaded: {str(error).splitlines()[0]}")]
    return list(check_start(recipe, start))


def _make_absolute(layers: Layers, annotation: Any, holder: Any, path: KeyPath) -> Iterator[Mistake]:
    """Turn every text marked RelativePath into an absolute path, from the folder of the file that set it.

    Yields a Mistake for each that can be no path.
    """
    names = list(holder) if isinstance(holder, dict) else range(len(holder)) if isinstance(holder, list) else ()
    for name in names:
        found = child(annotation, name, holder)
        here, value = (*path, name), holder[name]
        mark = next((m for m in _metadata(found) if isinstance(m, RelativePath)), None)
        if mark is not None and isinstance(value, str) and value:
            if problem := path_problem(value):
                yield Mistake(".".join(map(str, here)), problem)
                continue
            target = ((layers.origin(here) or DEFAULT).folder / os.path.expanduser(value)).resolve()
            holder[name] = value if mark.or_name and not target.exists() else str(target)
        elif found is not None:
            yield from _make_absolute(layers, found.annotation if isinstance(found, FieldInfo) else found, value, here)


def _metadata(found: Any) -> Sequence[Any]:
    return getattr(found, "metadata", None) or getattr(found, "__metadata__", ())

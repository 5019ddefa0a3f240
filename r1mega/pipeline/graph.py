"""The stages of a pipeline in the order they can run, each addressed by what its result depends on."""

import hashlib
import json
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from r1mega.config import Recipe, UserError, resolve_recipe
from r1mega.config.check import check_files, check_start
from r1mega.config.explain import raise_mistakes
from r1mega.config.loader import Resolved
from r1mega.config.pipeline import OWN_KEYS, START, PipelineConfig, StageEntry, load_pipeline
from r1mega.stage.chain import run_folder
from r1mega.stage.made_from import made_from

DIGITS = 12
NOT_IN_RESULTS = ("cli", "report")  # code that cannot change what a stage leaves
# Of the recipe: where it runs, how fast, and how it is shown, but not what comes out.
FREE_SECTIONS = {"name", "runs_dir", "start", "layout", "head", "checkpoint", "log"}
FREE_KEYS = {"train.micro_batch_tokens", "train.recompute", "train.max_bad_steps", "rollout.slots", "reward.workers"}


@dataclass(frozen=True)
class Stage:
    """One stage. `address` stands for everything its result depends on: equal addresses, equal results."""

    name: str
    recipe: Recipe
    """With the run's folder and seed; without the models and data sets that are other stages'."""
    path: Path
    inputs: Mapping[str, str]
    """Key of the recipe -> the stage whose result it is to name."""
    identity: Mapping[str, Any]
    address: str

    @property
    def run_dir(self) -> Path:
        return run_folder(self.recipe)

    @property
    def start(self) -> str | None:
        """The stage whose model this one starts from."""
        return self.inputs.get(START)


def load_stages(path: Path, overrides: Sequence[str] = (), *, files: bool = True) -> list[Stage]:
    """All stages of a pipeline file, those that others read from first. Overrides are for every stage: a key of
    theirs, or STAGE.KEY=VALUE for one; those of the pipeline's own keys (seed, name, runs_dir, code) are its own.
    `files=False` does not ask whether files that no stage makes are there.
    Raises UserError for whatever is wrong with pipeline or recipes."""
    pipeline = load_pipeline(path, [text for text in overrides if text.partition("=")[0] in OWN_KEYS])
    overrides = [text for text in overrides if text.partition("=")[0] not in OWN_KEYS]
    entries = {name: (group, entry) for name, group, entry in pipeline.single()}
    stages: dict[str, Stage] = {}
    for name in _ordered({name: entry for name, (_, entry) in entries.items()}):
        group, entry = entries[name]
        own = [text.removeprefix(f"{group}.") for text in overrides if text.startswith(f"{group}.")]
        shared = [text for text in overrides if text.partition(".")[0] not in pipeline.stages]
        words = [*entry.set, *shared, *own, *_fixed(name, pipeline, entry)]
        resolved = resolve_recipe(path.parent / entry.recipe, words, files=False)
        _check(resolved, path, name, entry, stages, files)
        stages[name] = _stage(name, pipeline, entry, resolved.recipe, path.parent / entry.recipe, stages)
    return list(stages.values())


def _ordered(entries: Mapping[str, StageEntry]) -> list[str]:
    """As they are in the file, but for those that others need first."""
    ordered: list[str] = []

    def add(name: str) -> None:
        for before in entries[name].reads.values():
            add(before)
        if name not in ordered:
            ordered.append(name)

    for name in entries:
        add(name)
    return ordered


def _fixed(name: str, pipeline: PipelineConfig, entry: StageEntry) -> list[str]:
    """Overrides that make the recipe this stage's."""
    folder = Path(pipeline.runs_dir) / (pipeline.name if pipeline.seed == 0 else f"{pipeline.name}-seed{pipeline.seed}")
    fixed = [f"seed={pipeline.seed}", f"runs_dir={json.dumps(str(folder))}", f"name={name}"]
    if entry.start is None:
        return fixed
    return [*fixed, "start.recipe=none", f"start.model={entry.start}"]  # a word for what is not there yet


def _check(
    resolved: Resolved, path: Path, name: str, entry: StageEntry, before: Mapping[str, Stage], files: bool
) -> None:
    """Raises UserError where the recipe cannot be this stage."""
    recipe, recipe_path = resolved.recipe, path.parent / entry.recipe
    if recipe.start.recipe is not None:
        raise UserError(f"{recipe_path}: start.recipe is set; in a pipeline the recipe it starts from is a stage of "
                        f"its own: add one to {path} and set stages.{name}.start")
    for key, stage in entry.reads.items():
        where = f'{path}: stages.{name}.inputs."{key}"="{stage}"'
        _check_key(recipe, key, where)
        _check_kind(key, before[stage].recipe, where)
    mistakes = [found for found in (check_files(recipe) if files else ())
                if not found.key.startswith(tuple(entry.reads))]
    if entry.start is not None and recipe.stage != "evaluate":
        mistakes += check_start(recipe, before[entry.start].recipe)
    raise_mistakes(mistakes, resolved.layers, recipe_path)


def _stage(
    name: str, pipeline: PipelineConfig, entry: StageEntry, recipe: Recipe, path: Path, before: Mapping[str, Stage]
) -> Stage:
    identity = {**_identity(recipe, path, entry.reads), "code": pipeline.code or code_version(),
                START: _portable(recipe.start.model, path.parent.resolve()),
                **{key: f"{stage}-{before[stage].address}" for key, stage in entry.reads.items()}}
    address = hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()[:DIGITS]
    recipe = recipe.model_copy(update={"name": f"{name}-{address}"})
    return Stage(name, recipe, path, entry.reads, identity, address)


def _check_key(recipe: Recipe, key: str, where: str) -> None:
    """Raises UserError where the recipe has no such key."""
    value: Any = recipe.model_dump()
    for part in key.split("."):
        try:
            value = value[int(part)] if isinstance(value, list) else value[part]
        except (KeyError, IndexError, TypeError, ValueError):
            raise UserError(f"{where}: the recipe has no such key; name one that holds a model or data files, e.g. "
                            '"sft.sources.0.paths"') from None


def _check_kind(key: str, made_by: Recipe, where: str) -> None:
    """Raises UserError where a key for data files is to name a model, or the reverse."""
    leaves = {"rejection_sampling": "a data set", "evaluate": "results"}.get(made_by.stage, "a model")
    wanted = "a data set" if key.endswith(".paths") else "a model"
    if leaves != wanted:
        raise UserError(f"{where}: a stage of kind {made_by.stage} leaves {leaves}, and the key names {wanted}; name "
                        "another stage")


def with_value(recipe: Recipe, key: str, value: Any) -> Recipe:
    """The recipe with another value at a dotted key."""
    tree = recipe.model_dump()
    holder: Any = tree
    *above, last = (int(part) if part.isdecimal() else part for part in key.split("."))
    for part in above:
        holder = holder[part]
    holder[last] = value
    return Recipe.model_validate(tree)


def _identity(recipe: Recipe, path: Path, reads: Iterable[str]) -> dict[str, Any]:
    """Dotted key -> value of what decides a stage's result: the recipe's keys, and the contents of its files, but of
    those that other stages make (`reads`). Paths are relative to the recipe, so that a checkout elsewhere has the same
    addresses."""
    folder = path.parent.resolve()
    flat: dict[str, Any] = {}
    for section, value in recipe.model_dump(mode="json", exclude=FREE_SECTIONS).items():
        if isinstance(value, dict):
            flat |= {f"{section}.{key}": item for key, item in value.items() if f"{section}.{key}" not in FREE_KEYS}
        else:
            flat[section] = value
    if any(key.startswith("reward.preference.") for key in reads):
        recipe = recipe.model_copy(update={"reward": recipe.reward.model_copy(update={"preference": None})})
    files = json.loads(made_from(recipe, path.parent, None))["files"]
    return _portable(flat, folder) | {
        f"file {_portable(name, folder)}": digest for name, digest in files.items()}


def _portable(value: Any, folder: Path) -> Any:
    """With absolute paths made relative to `folder`."""
    if isinstance(value, dict):
        return {key: _portable(item, folder) for key, item in value.items()}
    if isinstance(value, list):
        return [_portable(item, folder) for item in value]
    return os.path.relpath(value, folder) if isinstance(value, str) and value.startswith("/") else value


@cache
def code_version() -> str:
    """A hash of the sources that make results."""
    found = hashlib.sha256()
    for package in ("r1mega", "r1mega_kernels"):
        root = Path(find_spec(package).submodule_search_locations[0])
        for file in sorted(root.rglob("*.py")):
            if file.relative_to(root).parts[0] not in NOT_IN_RESULTS:
                found.update(f"{package}/{file.relative_to(root)}\0".encode() + file.read_bytes())
    return found.hexdigest()[:DIGITS]

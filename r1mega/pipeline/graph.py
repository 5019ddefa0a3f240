"""The stages of a pipeline in the order they can run, each addressed by what its result depends on."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from r1mega.config import Recipe, UserError, load_recipe
from r1mega.config.pipeline import PipelineConfig, load_pipeline
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
    """With the run's folder and seed; without the model it starts from, where that is another stage's."""
    path: Path
    start: str | None
    identity: Mapping[str, Any]
    address: str

    @property
    def run_dir(self) -> Path:
        return run_folder(self.recipe)


def load_stages(path: Path, overrides: Sequence[str] = ()) -> list[Stage]:
    """All stages of a pipeline file, those that others start from first. Overrides are for every stage: a key of
    theirs, or STAGE.KEY=VALUE for one. Raises UserError for whatever is wrong with pipeline or recipes."""
    pipeline = load_pipeline(path)
    stages: dict[str, Stage] = {}
    for name in _ordered(pipeline):
        stages[name] = _stage(name, path, pipeline, overrides, stages)
    return list(stages.values())


def _ordered(pipeline: PipelineConfig) -> list[str]:
    ordered: list[str] = []

    def add(name: str) -> None:
        start = pipeline.stages[name].start
        if start is not None:
            add(start)
        if name not in ordered:
            ordered.append(name)

    for name in pipeline.stages:
        add(name)
    return ordered


def _stage(
    name: str, path: Path, pipeline: PipelineConfig, overrides: Sequence[str], before: Mapping[str, Stage]
) -> Stage:
    entry = pipeline.stages[name]
    recipe_path = path.parent / entry.recipe
    own = [text.removeprefix(f"{name}.") for text in overrides if text.startswith(f"{name}.")]
    shared = [text for text in overrides if text.partition(".")[0] not in pipeline.stages]
    folder = Path(pipeline.runs_dir) / pipeline.name
    fixed = [f"seed={pipeline.seed}", f"runs_dir={json.dumps(str(folder))}", f"name={name}"]
    if entry.start is not None:
        fixed += ["start.recipe=none", "start.model=none"]
    recipe = load_recipe(recipe_path, [*entry.set, *shared, *own, *fixed])
    start = None if entry.start is None else before[entry.start]
    if recipe.start.recipe is not None:
        raise UserError(f"{recipe_path}: start.recipe is set; in a pipeline the recipe it starts from is a stage of "
                        f"its own: add one to {path} and set stages.{name}.start")
    identity = {**_identity(recipe, recipe_path), "code": pipeline.code or code_version(),
                "start": recipe.start.model if start is None else f"{start.name}-{start.address}"}
    address = hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()[:DIGITS]
    recipe = recipe.model_copy(update={"name": f"{name}-{address}"})
    return Stage(name, recipe, recipe_path, entry.start, identity, address)


def _identity(recipe: Recipe, path: Path) -> dict[str, Any]:
    """Dotted key -> value of what decides a stage's result: the recipe's keys, and the contents of its files."""
    flat: dict[str, Any] = {}
    for section, value in recipe.model_dump(mode="json", exclude=FREE_SECTIONS).items():
        if isinstance(value, dict):
            flat |= {f"{section}.{key}": item for key, item in value.items() if f"{section}.{key}" not in FREE_KEYS}
        else:
            flat[section] = value
    return flat | {f"file {name}": digest for name, digest in json.loads(made_from(recipe, path.parent, None))[
        "files"].items()}


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

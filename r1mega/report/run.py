"""A run folder, read."""

import json
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from r1mega.config import UserError
from r1mega.record.metric import ENVIRONMENT_FILE, METRICS_FILE, RECIPE_FILE, SAMPLES_FILE, read_jsonl

NOT_PART_OF_THE_EXPERIMENT = ("name", "seed", "runs_dir", "log", "checkpoint")


@dataclass(frozen=True)
class Run:
    """What one run folder says. `metrics` has one record a step, ascending: lines of one step are merged."""

    folder: Path
    metrics: tuple[Mapping[str, Any], ...]
    samples: tuple[Mapping[str, Any], ...]
    recipe: Mapping[str, Any]
    recipe_text: str
    environment: Mapping[str, Any]

    @property
    def name(self) -> str:
        return self.folder.resolve().name

    @property
    def stage(self) -> str:
        return next((record["stage"] for record in self.metrics if "stage" in record),
                    self.recipe.get("stage", ""))

    @property
    def experiment(self) -> Mapping[str, Any]:
        """The recipe without what differs between repetitions of one experiment."""
        return {key: value for key, value in self.recipe.items() if key not in NOT_PART_OF_THE_EXPERIMENT}

    def curve(self, key: str) -> list[tuple[int, float]]:
        """(step, value) wherever the metric is a number."""
        return [(record["step"], float(record[key])) for record in self.metrics
                if isinstance(record.get(key), int | float)]


def read_run(folder: Path) -> Run:
    """Read a run folder; samples, recipe and environment may be missing.

    Raises:
        UserError: no run folder, or a damaged file, named with its line.
    """
    if not folder.is_dir():
        raise UserError(f"{folder}: no such run folder; a run lies in runs/NAME by default")
    if not (folder / METRICS_FILE).is_file():
        raise UserError(f"{folder}: no {METRICS_FILE} in it; give the folder of a run that has started")
    samples = folder / SAMPLES_FILE
    recipe_text = _text(folder / RECIPE_FILE)
    try:
        recipe = tomllib.loads(recipe_text)
    except tomllib.TOMLDecodeError as error:
        raise UserError(f"{folder / RECIPE_FILE}: {error}; copy it from the recipe of the run") from None
    return Run(folder, tuple(_merged(folder / METRICS_FILE)),
               tuple(read_jsonl(samples)) if samples.exists() else (), recipe, recipe_text,
               _environment(folder / ENVIRONMENT_FILE))


def repetitions(runs: Sequence[Run]) -> bool:
    """Whether several runs are one experiment repeated (with other seeds), so that a mean has a meaning."""
    return len(runs) > 1 and all(run.experiment == runs[0].experiment for run in runs)


def labels(runs: Sequence[Run]) -> list[str]:
    """What tells the runs apart: their seeds where these differ and nothing else does, else their folders."""
    seeds = [run.recipe.get("seed") for run in runs]
    if repetitions(runs) and None not in seeds and len(set(seeds)) == len(runs):
        return [f"seed {seed}" for seed in seeds]
    names = [run.name for run in runs]
    return names if len(set(names)) == len(names) else [str(run.folder) for run in runs]


def _merged(path: Path) -> list[dict[str, Any]]:
    """One record a step: an evaluation may have a line of its own. Seconds of the lines add up."""
    steps: dict[int, dict[str, Any]] = {}
    for record in read_jsonl(path):
        known = steps.setdefault(record["step"], {})
        wall = (known.get("wall_s") or 0.0) + (record.get("wall_s") or 0.0)
        known.update(record)
        known["wall_s"] = wall
    return [steps[step] for step in sorted(steps)]


def _environment(path: Path) -> dict[str, Any]:
    try:
        environment = json.loads(_text(path) or "{}")
    except ValueError as error:
        raise UserError(f"{path}: not JSON ({error}); remove the file to leave the machine out") from None
    if not isinstance(environment, dict):
        raise UserError(f"{path}: not a JSON object; remove the file to leave the machine out")
    return environment


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return ""
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: not UTF-8 text ({error.reason} at byte {error.start})") from None

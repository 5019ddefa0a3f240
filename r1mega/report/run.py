"""A run folder, read."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from r1mega.config import UserError
from r1mega.record.metric import ENVIRONMENT_FILE, METRICS_FILE, RECIPE_FILE, SAMPLES_FILE
from r1mega.report.checked import read_environment, read_metrics, read_recipe, read_samples

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
        UserError: no run folder, or a damaged file, named with its line where it has lines.
    """
    if not folder.is_dir():
        raise UserError(f"{folder}: no such run folder; a run lies in runs/NAME by default")
    has_steps = (folder / METRICS_FILE).is_file()
    if not has_steps and not any((folder / "evaluation").glob("*.json")):  # an evaluation takes no steps
        raise UserError(f"{folder}: no {METRICS_FILE} in it; give the folder of a run that has started")
    recipe, recipe_text = read_recipe(folder / RECIPE_FILE)
    metrics = tuple(_merged(folder / METRICS_FILE)) if has_steps else ()
    return Run(folder, metrics, tuple(read_samples(folder / SAMPLES_FILE)), recipe, recipe_text,
               read_environment(folder / ENVIRONMENT_FILE))


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
    for record in read_metrics(path):
        known = steps.setdefault(record["step"], {})
        wall = (known.get("wall_s") or 0.0) + (record.get("wall_s") or 0.0)
        known.update(record)
        known["wall_s"] = wall
    return [steps[step] for step in sorted(steps)]

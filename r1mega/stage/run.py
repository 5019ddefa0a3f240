"""`r1mega run`: a recipe becomes a run folder."""

import json
import os
import sys
from pathlib import Path
from typing import Any

from r1mega.config import LayoutConfig, Recipe, UserError, dump_recipe, load_recipe, resolve_recipe
from r1mega.parallel import launch, start, stop
from r1mega.parallel.launch import adopt_slurm_task
from r1mega.stage.prepare import load_prepared, prepare

# What may change between two starts of one run: speed, looks and length, but not what is computed.
FREE_SECTIONS = {"layout", "checkpoint", "log", "head"}
FREE_KEYS = {"train": {"steps", "micro_batch_tokens", "recompute", "max_bad_steps"}, "rollout": {"slots"},
             "reward": {"workers", "timeout_s", "memory_mb"}, "evaluation": {"every", "at_start", "at_end"}}


def run_recipe(recipe: Recipe, recipe_path: Path) -> Path:
    """Run (or go on with) a recipe; returns its folder. The recipe it starts from runs first, if it has to."""
    adopt_slurm_task(os.environ)
    base_dir = recipe_path.parent
    start_model = _start_model(recipe, base_dir)
    run_dir = run_folder(recipe)
    if int(os.environ.get("RANK", "0")) == 0:
        run_dir.mkdir(parents=True, exist_ok=True)
        _same_run(recipe, run_dir)
        prepare(recipe, run_dir, base_dir, start_model)
        (run_dir / "recipe.toml").write_text(dump_recipe(recipe))
    launch("r1mega.stage.run:run_rank", {
        "run_dir": str(run_dir), "start_model": None if start_model is None else str(start_model),
        "layout": recipe.layout.model_dump(), "seed": recipe.seed,
        "command": [Path(sys.argv[0]).name, *sys.argv[1:]]}, recipe.layout)
    return run_dir


def run_folder(recipe: Recipe) -> Path:
    """runs_dir/name, with the seed where it is not 0, so that seeds do not write over each other."""
    name = recipe.name if recipe.seed == 0 else f"{recipe.name}-seed{recipe.seed}"
    return Path(recipe.runs_dir) / name


def run_rank(
    run_dir: str, start_model: str | None, layout: dict[str, Any], seed: int, command: list[str]
) -> None:
    """What every rank does. Nothing of the folder is read before rank 0, which prepared it, has joined.

    `command` is what the user typed, for the record.
    """
    import torch.distributed as dist

    from r1mega.stage.bench import open_bench
    from r1mega.stage.pretrain import pretrain
    from r1mega.stage.rl import rl

    folder = Path(run_dir)
    groups = start(LayoutConfig(**layout), seed)
    dist.barrier()
    recipe = resolve_recipe(folder / "recipe.toml", files=False).recipe  # its files were checked by whoever started us
    prepared = load_prepared(recipe, folder)
    begin = None if start_model is None else Path(start_model)
    try:
        with open_bench(recipe, folder, groups, prepared, begin, command) as bench:
            match recipe.stage:
                case "pretrain":
                    pretrain(bench)
                case "rl":
                    rl(bench)
        dist.barrier()
    finally:
        stop()  # the recipe that starts from this one, or another run, may follow in the same process


def newest_model(run_dir: Path, steps: int) -> Path | None:
    """The checkpoint of a finished run's last step."""
    folder = run_dir / "checkpoints" / f"step-{steps:08d}"
    return folder if (folder / "manifest.json").exists() else None


def _start_model(recipe: Recipe, base_dir: Path) -> Path | None:
    if recipe.start.model is not None:
        return Path(recipe.start.model)
    if recipe.start.recipe is None:
        return None
    path = base_dir / recipe.start.recipe
    overrides = [f"seed={recipe.seed}", f"runs_dir={json.dumps(recipe.runs_dir)}",
                 f"log.console={json.dumps(recipe.log.console)}"]
    base = load_recipe(path, overrides)
    if newest_model(run_folder(base), base.train.steps) is None:
        run_recipe(base, path)
    model = newest_model(run_folder(base), base.train.steps)
    if model is None:
        raise UserError(f"{path}: its run stopped before step {base.train.steps}, so {recipe.name} cannot start; "
                        "run the same command again")
    return model


def _same_run(recipe: Recipe, run_dir: Path) -> None:
    """Refuse to go on with a run under another recipe."""
    if not (run_dir / "recipe.toml").exists() or not any((run_dir / "checkpoints").glob("step-*")):
        return
    before, now = _fixed(resolve_recipe(run_dir / "recipe.toml", files=False).recipe), _fixed(recipe)
    for key in sorted(before.keys() | now.keys()):
        if before.get(key) != now.get(key):
            raise UserError(
                f"{run_dir}: was started with {key}={before.get(key)!r}, now it is {now.get(key)!r}; go on with the "
                f"same recipe, or set name=... for a new run (or remove {run_dir})")


def _fixed(recipe: Recipe) -> dict[str, Any]:
    """Dotted key -> value of everything that must not change."""
    sections = recipe.model_dump(exclude=FREE_SECTIONS | {"name", "runs_dir", "start"})
    flat: dict[str, Any] = {}
    for section, value in sections.items():
        if isinstance(value, dict):
            flat |= {f"{section}.{key}": item for key, item in value.items()
                     if key not in FREE_KEYS.get(section, set())}
        else:
            flat[section] = value
    return flat

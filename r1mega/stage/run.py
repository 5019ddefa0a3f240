"""`r1mega run`: a recipe becomes a run folder."""

import os
import sys
from pathlib import Path
from typing import Any

from r1mega.config import LayoutConfig, UserError, dump_recipe, resolve_recipe
from r1mega.config.recipe import Recipe
from r1mega.parallel import launch, start, stop
from r1mega.parallel.launch import adopt_slurm_task
from r1mega.stage.chain import Link, chain
from r1mega.stage.prepare import load_prepared, prepare_chain


def run_recipe(recipe: Recipe, recipe_path: Path) -> Path:
    """Run (or go on with) a recipe; returns its folder. The recipe it starts from runs first, if it has to.

    The data of both is made and checked before either trains.
    """
    adopt_slurm_task(os.environ)
    links = chain(recipe, recipe_path)
    # Every rank looks for itself, and none can write before all have looked: they agree on what is to be run.
    models = [None if is_damaged(model) else model for model in map(last_checkpoint, links[:-1])]
    if int(os.environ.get("RANK", "0")) == 0:
        links = prepare_chain(links)
    *before, link = links
    begin = None
    for earlier, model in zip(before, models, strict=True):
        if model is None:
            _train(earlier, begin)
        begin = model or last_checkpoint(earlier)
        if begin is None:
            raise UserError(f"{earlier.path}: its run stopped before step {earlier.recipe.train.steps}, so "
                            f"{recipe.name} cannot start; run the same command again")
    if link.recipe.stage == "evaluate":
        evaluate_run(link, begin or Path(link.recipe.start.model))
    else:
        _train(link, begin)
    return link.run_dir


def _train(link: Link, begin: Path | None) -> None:
    """One run of the chain, from the model `begin` (or the recipe's own start.model) where it has no checkpoint."""
    begin = begin or link.recipe.start.model
    write_recipe(link)
    launch("r1mega.stage.run:run_rank", {
        "run_dir": str(link.run_dir), "start_model": None if begin is None else str(begin),
        "layout": link.recipe.layout.model_dump(), "seed": link.recipe.seed,
        "command": [Path(sys.argv[0]).name, *sys.argv[1:]]}, link.recipe.layout)


def write_recipe(link: Link) -> None:
    """The resolved recipe into the run's folder, by one process."""
    if int(os.environ.get("RANK", "0")) == 0:
        link.run_dir.mkdir(parents=True, exist_ok=True)
        (link.run_dir / "recipe.toml").write_text(dump_recipe(link.recipe), encoding="utf-8")


def evaluate_run(link: Link, model: Path) -> None:
    """Stage evaluate: one results file a suite, the same whatever killed it on the way (stage/suite.py)."""
    from r1mega.stage.suite import evaluate

    write_recipe(link)
    recipe = link.recipe
    evaluate(model, recipe.layout, recipe.evaluation.suites, link.run_dir / "evaluation", reward=recipe.reward)


def run_rank(
    run_dir: str, start_model: str | None, layout: dict[str, Any], seed: int, command: list[str]
) -> None:
    """What every rank does. Nothing of the folder is read before rank 0, which prepared it, has joined.

    `command` is what the user typed, for the record.
    """
    import torch.distributed as dist

    from r1mega.stage.bench import open_bench
    from r1mega.stage.preference import preference
    from r1mega.stage.pretrain import pretrain
    from r1mega.stage.rejection_sampling import rejection_sampling
    from r1mega.stage.rl import rl
    from r1mega.stage.sft import sft

    folder = Path(run_dir)
    groups = start(LayoutConfig(**layout), seed)
    dist.barrier()
    recipe = resolve_recipe(folder / "recipe.toml", files=False).recipe  # its files were checked by whoever started us
    prepared = load_prepared(recipe, folder)
    begin = None if start_model is None else Path(start_model)
    try:
        if recipe.stage == "rejection_sampling":  # trains nothing
            rejection_sampling(recipe, folder, groups, prepared, begin, command)
        else:
            with open_bench(recipe, folder, groups, prepared, begin, command) as bench:
                match recipe.stage:
                    case "pretrain":
                        pretrain(bench)
                    case "sft":
                        sft(bench)
                    case "preference":
                        preference(bench)
                    case "rl":
                        rl(bench)
        dist.barrier()
    finally:
        stop()  # the recipe that starts from this one, or another run, may follow in the same process


def last_checkpoint(link: Link) -> Path | None:
    """The checkpoint of a finished run's last step; where its data decide which that is, the run's folder knows."""
    steps, written = link.recipe.train.steps, link.run_dir / "recipe.toml"
    if steps is None and written.exists():
        steps = resolve_recipe(written, files=False).recipe.train.steps
    if steps is None:
        return None
    folder = link.run_dir / "checkpoints" / f"step-{steps:08d}"
    return folder if (folder / "manifest.json").exists() else None


def is_damaged(checkpoint: Path | None) -> bool:
    """Whether a file of the model is not what the checkpoint's manifest says; its run then goes back to the one before.

    Hashed by this process alone, so only what the next run will load.
    """
    from r1mega.training.checkpoint.files import hash_file
    from r1mega.training.checkpoint.manifest import DamagedError, read_manifest
    from r1mega.training.checkpoint.model_folder import MODEL, TOKENIZER, WEIGHTS

    if checkpoint is None:
        return False
    try:
        records = read_manifest(checkpoint, checkpoint.name)
        return any(hash_file(checkpoint / file) != record for file, record in records.items()
                   if file.split("/")[0] in (MODEL, TOKENIZER, WEIGHTS))
    except (DamagedError, OSError):
        return True

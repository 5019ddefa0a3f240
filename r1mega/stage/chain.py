"""What a recipe's run needs before it: the run of the recipe it starts from, and of the one that starts from."""

import json
import os
from dataclasses import dataclass
from pathlib import Path

from r1mega.config import Recipe, load_recipe

DATASET, ROWS_SO_FAR = "dataset", "rejection.partial.jsonl"  # of a run that makes data: the whole, and its beginning


@dataclass(frozen=True)
class Link:
    """One run of a chain; each starts from the model of the one before."""

    recipe: Recipe
    path: Path
    """The recipe's file."""
    data: str = ""
    """What the run trains on, in words, where its data decide how long it is."""

    @property
    def run_dir(self) -> Path:
        return run_folder(self.recipe)

    @property
    def goes_on(self) -> bool:
        """Whether the run has checkpoints of its own already."""
        return bool(checkpoints(self.run_dir))


def chain(recipe: Recipe, path: Path) -> list[Link]:
    """The recipe's run, last, after those that have to be there first. One that can go on by itself needs none.

    Raises UserError, also where ranks are started already and a recipe it starts from cannot use that many.
    """
    link = Link(recipe, path)
    if recipe.start.recipe is None or link.goes_on:
        return [link]
    before = path.parent / recipe.start.recipe
    overrides = [f"seed={recipe.seed}", f"runs_dir={json.dumps(recipe.runs_dir)}",
                 f"log.console={json.dumps(recipe.log.console)}"]
    if "RANK" in os.environ:  # the ranks of this recipe's layout are those that will run the other one too
        overrides += [f"layout.{key}={'none' if value is None else json.dumps(value)}"
                      for key, value in recipe.layout.model_dump().items()]
    return [*chain(load_recipe(before, overrides), before), link]


def run_folder(recipe: Recipe) -> Path:
    """runs_dir/name, with the seed where it is not 0, so that seeds do not write over each other."""
    name = recipe.name if recipe.seed == 0 else f"{recipe.name}-seed{recipe.seed}"
    return Path(recipe.runs_dir).expanduser() / name


def checkpoints(run_dir: Path) -> list[Path]:
    """Folders of a run's checkpoints, oldest first; half-written ones have another name."""
    return sorted((run_dir / "checkpoints").glob("step-*"))


def has_rows(run_dir: Path) -> bool:
    """Whether a run has made data."""
    return (run_dir / DATASET).exists() or (run_dir / ROWS_SO_FAR).exists()

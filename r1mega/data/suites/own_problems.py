"""The held-out problems of a recipe, as its own runs hold them out, and the rewards that judge them."""

from pathlib import Path

from r1mega.config import Recipe, resolve_recipe
from r1mega.config.error import UserError
from r1mega.config.rl import RewardConfig
from r1mega.config.suite import SuiteRecipe
from r1mega.data.problems import load_problems
from r1mega.data.split import Split, split
from r1mega.record import Problem


def own_problems(source: SuiteRecipe, folder: Path) -> tuple[list[Problem], RewardConfig]:
    """`folder`: of the suite's file. The order is that of the hash that chose them: the first n are a fair sample.
    General prompts, which have no right answer, are left out.

    Whatever else the recipe names (the model it starts from, supervised samples) need not be there. Raises UserError.
    """
    path = folder / source.path
    recipe, (_, heldout) = recipe_problems(path)
    heldout = [problem for problem in heldout if problem.scorer != "preference"]
    if not heldout:
        raise UserError(f"{path}: data.heldout_problems={recipe.data.heldout_problems} holds out no problem with a "
                        "right answer; set it to 1 or more")
    return heldout, recipe.reward


def recipe_problems(path: Path) -> tuple[Recipe, Split]:
    """A recipe with its problems, as its runs divide them. Raises UserError."""
    recipe = resolve_recipe(path, files=False).recipe
    return recipe, split(load_problems(recipe.data, path.parent), recipe.data.heldout_problems)

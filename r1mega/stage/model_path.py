"""From what a user calls a model to its folder."""

from pathlib import Path

from r1mega.config import ModelConfig, Recipe, UserError, resolve_recipe
from r1mega.config.data import ChatTemplate


def find_model(path: Path) -> Path:
    """A model folder or checkpoint as it is; of a run folder the newest checkpoint. Raises UserError."""
    if (path / "model.json").exists():
        return path
    steps = sorted((path / "checkpoints").glob("step-*/manifest.json"))
    if not steps:
        raise UserError(f"{path}: no model there; give a model folder (model.json, weights/), a checkpoint or a "
                        "run folder")
    return steps[-1].parent


def recipe_of(model: Path) -> Recipe | None:
    """The recipe of the run that made this checkpoint, where there is one."""
    path = model.parent.parent / "recipe.toml"
    return resolve_recipe(path, files=False).recipe if path.exists() else None


def template_of(model: Path) -> ChatTemplate:
    """The chat template the model was trained with, or the default one."""
    recipe = recipe_of(model)
    return ChatTemplate() if recipe is None else recipe.tokenizer.template


def max_new_tokens(model: ModelConfig, longest_prompt: int, wanted: int | None) -> int:
    """As many as fit, or as wanted."""
    room = model.max_context - longest_prompt
    if room < 1:
        raise UserError(f"a prompt of {longest_prompt} tokens leaves no room to answer (model.max_context="
                        f"{model.max_context}); shorten it")
    return room if wanted is None else min(wanted, room)

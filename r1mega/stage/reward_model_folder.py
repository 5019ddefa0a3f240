"""The folders of the reward models that a recipe names, found and checked before any rank starts."""

import json
from pathlib import Path

from r1mega.config import Recipe, UserError
from r1mega.config.check_layout import check_layout
from r1mega.stage.model_path import find_model

KINDS = {"helpfulness": "pairwise", "safety": "pointwise"}


def reward_model_folders(recipe: Recipe) -> dict[str, Path]:
    """helpfulness, safety -> model folder, of those the recipe names. Raises UserError where there is no model."""
    config, found = recipe.reward.preference, {}
    for name in config.weights if config is not None else ():
        path = getattr(config, name)
        try:
            found[name] = find_model(Path(path))
        except UserError as error:
            raise UserError(f"reward.preference.{name}={path}: no reward model there ({error}); train one with "
                            f'stage="preference" and preference.kind="{KINDS[name]}"') from None
    return found


def check_reward_models(recipe: Recipe) -> None:
    """Raises UserError for a folder that is no reward model of the right kind, or does not fit the layout."""
    from r1mega.training.checkpoint import read_model_config  # torch, only paid for by recipes with reward models

    for name, folder in reward_model_folders(recipe).items():
        key = f"reward.preference.{name}={folder}"
        model, head = read_model_config(folder), f"scalar_head.{KINDS[name]}"
        try:
            tensors = json.loads((folder / "weights" / "index.json").read_bytes())
        except (OSError, ValueError) as error:
            raise UserError(f"{key}: weights/index.json cannot be read ({error}); train the model again") from None
        if head not in tensors:
            others = [tensor for tensor in tensors if tensor.startswith("scalar_head.")]
            what = "is a policy" if not others else f"was trained with kind={others[0].partition('.')[2]}"
            raise UserError(f'{key}: {what}; name a model of stage="preference", preference.kind="{KINDS[name]}"')
        if not (folder / "tokenizer" / "tokenizer.json").is_file():
            raise UserError(f"{key}: has no tokenizer/; put the tokenizer it was trained with there")
        for mistake in check_layout(model, recipe.layout):
            raise UserError(f"{key}: does not fit the layout ({mistake.key} {mistake.text}); use another layout")

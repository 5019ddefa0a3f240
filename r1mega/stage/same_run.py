"""A run is gone on with by the recipe it was started with, or not at all."""

from pathlib import Path
from typing import Any

from r1mega.config import Recipe, UserError, resolve_recipe
from r1mega.stage.chain import checkpoints, has_rows

# What may change between two starts of one run: speed, looks and length, but not what is computed. The length is part
# of that where the learning rate follows a cosine; the time and memory a judge has are, since they decide rewards.
FREE_SECTIONS = {"layout", "checkpoint", "log", "head"}
FREE_KEYS = {"train": {"steps", "micro_batch_tokens", "recompute", "max_bad_steps"}, "rollout": {"slots"},
             "reward": {"workers"}, "evaluation": {"every", "at_start", "at_end"}}
NOT_USED = {"rejection_sampling": {"optimizer", "train", "algorithm", "evaluation"}}  # sections, by stage
HOW_TO_ASK = {"key_variable", "timeout_s", "retries", "concurrency"}  # of a model behind an endpoint

ALARM = ("on_alarm", "alarm_window", "alarm_rise")  # of reward.preference; after an alarm that stopped the run, say


def check_same_run(recipe: Recipe, run_dir: Path) -> None:
    """Raises UserError where `run_dir` has checkpoints, or a dataset, of another recipe."""
    if not (run_dir / "recipe.toml").exists() or not (checkpoints(run_dir) or has_rows(run_dir)):
        return
    before, now = _fixed(resolve_recipe(run_dir / "recipe.toml", files=False).recipe), _fixed(recipe)
    for key in sorted(before.keys() | now.keys()):
        if before.get(key) != now.get(key):
            why = " (the cosine of optimizer.schedule ends at the last step)" if key == "train.steps" else ""
            raise UserError(
                f"{run_dir}: was started with {key}={before.get(key)!r}, now it is {now.get(key)!r}{why}; go on with "
                f"the same recipe, or set name=... for a new run of {recipe.name} (or remove {run_dir})")


def _fixed(recipe: Recipe) -> dict[str, Any]:
    """Dotted key -> value of everything that must not change."""
    unused = FREE_SECTIONS | {"name", "runs_dir"} | NOT_USED.get(recipe.stage, set())
    sections = recipe.model_dump(exclude=unused | {"rejection"})
    if recipe.rejection is not None:
        sections["rejection"] = recipe.rejection.model_dump(exclude={"judge": HOW_TO_ASK, "rewriter": HOW_TO_ASK})
    for key in ALARM:
        (sections["reward"]["preference"] or {}).pop(key, None)
    flat: dict[str, Any] = {}
    for section, value in sections.items():
        if isinstance(value, dict):
            flat |= {f"{section}.{key}": item for key, item in value.items()
                     if key not in FREE_KEYS.get(section, set())}
        else:
            flat[section] = value
    if recipe.optimizer.schedule == "cosine" and recipe.stage in ("pretrain", "rl"):  # elsewhere the data decide
        flat["train.steps"] = recipe.train.steps
    return flat

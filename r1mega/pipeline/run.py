"""Run what is missing of a pipeline, in order; killed anywhere, the same call goes on."""

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from r1mega.config import UserError
from r1mega.pipeline.artifact import artifact_of, begin, claim, finish, release
from r1mega.pipeline.graph import Stage
from r1mega.stage.chain import checkpoints
from r1mega.stage.run import run_recipe


@dataclass(frozen=True)
class Choice:
    """Which stages to look at: from `first` on, up to `until`, or `only` one. What is done is never run again."""

    first: str | None = None
    until: str | None = None
    only: str | None = None


def chosen_stages(stages: Sequence[Stage], choice: Choice) -> list[Stage]:
    """Raises UserError for a name that no stage has."""
    names = [stage.name for stage in stages]
    for option, name in (("--from", choice.first), ("--until", choice.until), ("--only", choice.only)):
        if name is not None and name not in names:
            raise UserError(f"command line: {option} {name}: no such stage; stages are {', '.join(names)}")
    if choice.only is not None:
        return [stages[names.index(choice.only)]]
    begin_at = names.index(choice.first) if choice.first is not None else 0
    end_at = names.index(choice.until) + 1 if choice.until is not None else len(names)
    return list(stages[begin_at:end_at])


def run_pipeline(stages: Sequence[Stage], choice: Choice, say: Callable[[str], None]) -> None:
    """Run the chosen stages that are not done. Raises UserError where one starts from a model that is not there."""
    by_name = {stage.name: stage for stage in stages}
    chosen = chosen_stages(stages, choice)
    # Every rank looks for itself before any can write: they agree on what is to be run.
    missing = [stage for stage in chosen if artifact_of(stage) is None]
    for stage in chosen:
        start = by_name.get(stage.start) if stage.start else None
        if stage in missing and start is not None and start not in missing and artifact_of(start) is None:
            raise UserError(f"stage {stage.name} starts from {start.name}, whose model is not there; run --until "
                            f"{stage.name}, or without --from and --only")
    leader = int(os.environ.get("RANK", "0")) == 0
    for stage in chosen:
        if stage not in missing:
            say(f"{stage.name}: done before, in {stage.run_dir}")
            continue
        say(f"{stage.name}: {stage.run_dir}")
        _run_stage(stage, by_name, leader)


def _run_stage(stage: Stage, by_name: dict[str, Stage], leader: bool) -> None:
    recipe = stage.recipe
    if stage.start is not None:
        model = str(checkpoints(by_name[stage.start].run_dir)[-1].resolve())
        recipe = recipe.model_copy(update={"start": recipe.start.model_copy(update={"model": model})})
    if leader:
        begin(stage)
        claim(stage)
    try:
        run_recipe(recipe, stage.path)
        steps = recipe.train.steps
        if steps is not None and checkpoints(stage.run_dir)[-1].name != f"step-{steps:08d}":
            raise UserError(f"stage {stage.name} stopped before step {steps}; run the same command again")
        if leader:
            finish(stage)
    finally:
        if leader:
            release(stage)

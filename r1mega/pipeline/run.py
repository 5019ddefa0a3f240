"""Run what is missing of a pipeline, in order; killed anywhere, the same call goes on."""

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from r1mega.config import UserError
from r1mega.config.data import DATA_ENDINGS
from r1mega.pipeline.artifact import artifact_of, begin, claim, finish, release
from r1mega.pipeline.graph import Stage, with_value
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
    """Run the chosen stages that are not done. Raises UserError where one reads what is not there."""
    by_name = {stage.name: stage for stage in stages}
    chosen = chosen_stages(stages, choice)
    # Every rank looks for itself before any can write: they agree on what is to be run.
    missing = [stage for stage in chosen if artifact_of(stage) is None]
    for stage in missing:
        for name in stage.inputs.values():
            if by_name[name] not in missing and artifact_of(by_name[name]) is None:
                raise UserError(f"stage {stage.name} reads what {name} leaves, which is not there; run --until "
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
    for key, name in stage.inputs.items():
        recipe = with_value(recipe, key, _named(key, artifact_of(by_name[name]).path.resolve()))
    if leader:
        begin(stage)
        claim(stage)
    try:
        run_recipe(recipe, stage.path)
        if leader and finish(stage) is None:
            raise UserError(f"stage {stage.name} was stopped before its end; run the same command again")
    finally:
        if leader:
            release(stage)


def _named(key: str, path: Path) -> str | list[str]:
    """How a recipe names what lies at `path`: a model's folder, or the files of a data set."""
    if not key.endswith(".paths"):
        return str(path)
    return [str(file) for file in sorted(path.iterdir()) if file.suffix in DATA_ENDINGS]

"""How far a pipeline is, and why a stage has to run."""

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from r1mega.pipeline.artifact import artifact_of, began_with, worked_on
from r1mega.pipeline.graph import Stage
from r1mega.record.metric import METRICS_FILE

WITHOUT_STEPS = ("rejection_sampling", "evaluate")
State = Literal["done", "running", "stopped", "stale", "waiting"]


@dataclass(frozen=True)
class StageStatus:
    """done: its model is there. running: a process works on it. stopped: begun, and goes on from its checkpoint.
    stale: only results of other settings are there. waiting: nothing is."""

    stage: Stage
    state: State
    why: str


def status(stages: Sequence[Stage]) -> list[StageStatus]:
    found: list[StageStatus] = []
    for stage in stages:
        found.append(_status(stage, {one.stage.name for one in found if one.state == "done"}))
    return found


def _status(stage: Stage, done: Collection[str]) -> StageStatus:
    artifact = artifact_of(stage)
    if artifact is not None:
        return StageStatus(stage, "done", f"{artifact.content[:12]}, {artifact.seconds / 60:.1f} min")
    step = _last_step(stage.run_dir)
    trains = stage.recipe.stage not in WITHOUT_STEPS
    of = f"step {step} of {stage.recipe.train.steps or '?'}" if trains else f"part {step}"
    if worked_on(stage):
        return StageStatus(stage, "running", of)
    if began_with(stage.run_dir) is not None:
        return StageStatus(stage, "stopped", of)
    others = sorted(_others(stage), key=lambda folder: folder.stat().st_mtime)
    if others:
        return StageStatus(stage, "stale", f"{others[-1].name} had other {differences(others[-1], stage)}")
    missing = [name for name in dict.fromkeys(stage.inputs.values()) if name not in done]
    return StageStatus(stage, "waiting", f"for {', '.join(missing)}" if missing else "")


def differences(folder: Path, stage: Stage, most: int = 3) -> str:
    """What a folder of the same stage was started with, where it differs."""
    before = began_with(folder) or {}
    keys = sorted(key for key in before.keys() | stage.identity.keys() if before.get(key) != stage.identity.get(key))
    shown = [f"{key} ({_short(before, key)} -> {_short(stage.identity, key)})" for key in keys[:most]]
    return ", ".join(shown) + (f" and {len(keys) - most} more" if len(keys) > most else "")


def _short(identity: Mapping[str, Any], key: str) -> str:
    text = json.dumps(identity[key]) if key in identity else "absent"
    return text if len(text) <= 24 else f"{text[:21]}..."


def _others(stage: Stage) -> list[Path]:
    """Folders of the same stage under other addresses."""
    found = stage.run_dir.parent.glob(f"{stage.name}-*")
    return [folder for folder in found if folder != stage.run_dir and began_with(folder) is not None]


def _last_step(run_dir: Path) -> int:
    try:
        lines = (run_dir / METRICS_FILE).read_text(encoding="utf-8").splitlines()
        return int(json.loads(lines[-1])["step"]) if lines else 0
    except (OSError, ValueError, KeyError):
        return 0

"""What lies in a stage's folder beside its run: what it was started with, and what it left."""

import hashlib
import json
import os
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from r1mega.pipeline.graph import Stage
from r1mega.stage.chain import DATASET, Link
from r1mega.stage.run import last_checkpoint
from r1mega.stage.suite import results_digest, results_file
from r1mega.training.atomic_file import replace_file
from r1mega.training.checkpoint.manifest import DamagedError, read_manifest
from r1mega.training.checkpoint.model_folder import MODEL, TOKENIZER, WEIGHTS

STARTED, LEFT = "stage.json", "artifact.json"
EVALUATION = "evaluation"  # folder of results


@dataclass(frozen=True)
class Artifact:
    """What a finished stage has left."""

    path: Path
    """A model's folder, a data set's, or one of results."""
    content: str
    """A hash: of a model its configuration, weights and tokenizer; of a data set its files; of results all but when
    and where they were made."""
    seconds: float
    """From the stage's first start to its end, whatever lay between."""


def begin(stage: Stage) -> None:
    """Note what the stage is started with, once."""
    path = stage.run_dir / STARTED
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        _write(path, {"stage": stage.name, "address": stage.address, "identity": stage.identity, "began": time.time()})


def finish(stage: Stage) -> Artifact | None:
    """Note what the stage has left; None, and nothing noted, where it is not at its end."""
    path = _left_by(stage)
    if path is None:
        return None
    began = json.loads((stage.run_dir / STARTED).read_text())["began"]
    artifact = Artifact(path, content_hash(stage, path), time.time() - began)
    _write(stage.run_dir / LEFT, {"path": str(path.relative_to(stage.run_dir)), "content": artifact.content,
                                  "seconds": artifact.seconds, "finished": time.time()})
    return artifact


def _left_by(stage: Stage) -> Path | None:
    """Where the stage's run, if it is at its end, has its result."""
    match stage.recipe.stage:
        case "rejection_sampling":
            found = stage.run_dir / DATASET
            return found if found.is_dir() else None
        case "evaluate":
            found = stage.run_dir / EVALUATION
            wanted = (results_file(found, suite) for suite in stage.recipe.evaluation.suites.paths)
            return found if all(path.is_file() for path in wanted) else None
    return last_checkpoint(Link(stage.recipe, stage.path))


def _write(path: Path, fields: Mapping[str, Any]) -> None:
    replace_file(path, json.dumps(fields, indent=1).encode())


def artifact_of(stage: Stage) -> Artifact | None:
    """What the stage has left, if it is finished and still there, whole."""
    try:
        found = json.loads((stage.run_dir / LEFT).read_text())
        path = stage.run_dir / found["path"]
        content = content_hash(stage, path)
        return Artifact(path, content, found["seconds"]) if content == found["content"] else None
    except (OSError, ValueError, KeyError, DamagedError):
        return None


def content_hash(stage: Stage, path: Path) -> str:
    """Of what the stage has left."""
    match stage.recipe.stage:
        case "rejection_sampling":
            own = {file.name: _file_hash(file) for file in _files(path)}
        case "evaluate":
            own = {file.name: results_digest(file) for file in _files(path)}
        case _:
            own = {name: str(record) for name, record in read_manifest(path, path.name).items()
                   if name.split("/")[0] in (MODEL, TOKENIZER, WEIGHTS)}
    return hashlib.sha256(json.dumps(own, sort_keys=True).encode()).hexdigest()


def _files(folder: Path) -> list[Path]:
    found = sorted(path for path in folder.iterdir() if path.is_file())
    if not found:
        raise FileNotFoundError(f"{folder}: empty")
    return found


def _file_hash(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def began_with(folder: Path) -> Mapping[str, Any] | None:
    """The identity a stage's folder was started with."""
    try:
        return json.loads((folder / STARTED).read_text())["identity"]
    except (OSError, ValueError, KeyError):
        return None


def claim(stage: Stage) -> None:
    """Note that this process works on the stage."""
    (stage.run_dir / "running.pid").write_text(f"{os.uname().nodename} {os.getpid()}")


def release(stage: Stage) -> None:
    (stage.run_dir / "running.pid").unlink(missing_ok=True)


def worked_on(stage: Stage) -> bool:
    """Whether a process works on the stage: one of this machine that lives, or one of another machine."""
    try:
        host, pid = (stage.run_dir / "running.pid").read_text().split()
    except (OSError, ValueError):
        return False
    return host != os.uname().nodename or Path(f"/proc/{pid}").exists()

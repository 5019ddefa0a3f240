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
from r1mega.stage.chain import checkpoints
from r1mega.training.atomic_file import replace_file
from r1mega.training.checkpoint.manifest import DamagedError, read_manifest
from r1mega.training.checkpoint.model_folder import MODEL, TOKENIZER, WEIGHTS

STARTED, LEFT = "stage.json", "artifact.json"


@dataclass(frozen=True)
class Artifact:
    """The model a finished stage has left."""

    model: Path
    content: str
    """A hash of the model's files: its configuration, weights and tokenizer."""
    seconds: float
    """From the stage's first start to its end, whatever lay between."""


def begin(stage: Stage) -> None:
    """Note what the stage is started with, once."""
    path = stage.run_dir / STARTED
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        _write(path, {"stage": stage.name, "address": stage.address, "identity": stage.identity, "began": time.time()})


def finish(stage: Stage) -> Artifact:
    """Note what the stage has left."""
    model = checkpoints(stage.run_dir)[-1]
    began = json.loads((stage.run_dir / STARTED).read_text())["began"]
    artifact = Artifact(model, content_hash(model), time.time() - began)
    _write(stage.run_dir / LEFT, {"model": str(model.relative_to(stage.run_dir)), "content": artifact.content,
                                  "seconds": artifact.seconds, "finished": time.time()})
    return artifact


def _write(path: Path, fields: Mapping[str, Any]) -> None:
    replace_file(path, json.dumps(fields, indent=1).encode())


def artifact_of(stage: Stage) -> Artifact | None:
    """What the stage has left, if it is finished and still there."""
    try:
        found = json.loads((stage.run_dir / LEFT).read_text())
        model = stage.run_dir / found["model"]
        return Artifact(model, found["content"], found["seconds"]) if content_hash(model) == found["content"] else None
    except (OSError, ValueError, KeyError, DamagedError):
        return None


def content_hash(model: Path) -> str:
    """By the manifest's hashes of the files that make the model; its other files are not part of it."""
    records = read_manifest(model, model.name)
    own = {name: str(record) for name, record in records.items() if name.split("/")[0] in (MODEL, TOKENIZER, WEIGHTS)}
    return hashlib.sha256(json.dumps(own, sort_keys=True).encode()).hexdigest()


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

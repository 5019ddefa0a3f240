"""The door to Weights & Biases: the only file that imports it, and only when a recipe asks for it."""

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from r1mega.config import UserError


class WandbLog:
    """Mirrors metrics.jsonl to a wandb project. wandb itself honours WANDB_MODE=offline and disabled.

    It keeps both passes over steps that a resume repeats; metrics.jsonl is the record.
    """

    def __init__(self, folder: Path, project: str) -> None:
        try:
            import wandb
        except ImportError:
            raise UserError(f"log.wandb_project={project!r}: the package wandb is not installed; "
                            "run `pip install wandb`, or leave the key out") from None
        # One id a folder, so that a resumed run goes on in the same place.
        identity = hashlib.sha256(str(folder.resolve()).encode()).hexdigest()[:12]
        self._run = wandb.init(project=project, name=folder.name, id=identity, resume="allow",
                               dir=str(folder))
        self._run.define_metric("*", step_metric="step")  # our step, which a resume may set back

    def append(self, record: Mapping[str, Any]) -> None:
        self._run.log({key: value for key, value in record.items() if value is not None})

    def close(self) -> None:
        self._run.finish()

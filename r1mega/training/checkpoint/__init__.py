"""Checkpoints and model folders."""

import r1mega.parallel  # noqa: F401  before anything imports megatron.core: it may have to open the CPU door
from r1mega.training.checkpoint.manifest import DamagedError, verify_folder
from r1mega.training.checkpoint.model_folder import load_model_folder, read_model_config, save_model_folder
from r1mega.training.checkpoint.snapshot import LoadTarget, Snapshot
from r1mega.training.checkpoint.store import CheckpointStore
from r1mega.training.checkpoint.together import CheckpointWriteError

__all__ = [
    "CheckpointStore",
    "CheckpointWriteError",
    "DamagedError",
    "LoadTarget",
    "Snapshot",
    "load_model_folder",
    "read_model_config",
    "save_model_folder",
    "verify_folder",
]

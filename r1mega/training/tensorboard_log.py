"""TensorBoard's event file, through TensorBoard's own writer: neither TensorFlow nor torch is imported."""

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tensorboard.compat.proto.event_pb2 import Event, SessionLog
from tensorboard.compat.proto.summary_pb2 import Summary
from tensorboard.summary.writer.event_file_writer import EventFileWriter

from r1mega.record.metric import TENSORBOARD_FOLDER, TIME_FIELDS

FLUSH_S = 10


class TensorBoardLog:
    """Scalars grouped as train/, reward/, heldout/ and time/."""

    def __init__(self, folder: Path, last_step: int) -> None:
        """Readers will drop what earlier event files of this run hold after `last_step`."""
        self._writer = EventFileWriter(str(folder / TENSORBOARD_FOLDER), flush_secs=FLUSH_S)
        # A reader that meets a session start forgets everything from its step on.
        session = SessionLog(status=SessionLog.START)
        self._writer.add_event(Event(wall_time=time.time(), step=last_step + 1, session_log=session))

    def append(self, record: Mapping[str, Any]) -> None:
        values = [Summary.Value(tag=_tag(key), simple_value=value) for key, value in record.items()
                  if key != "step" and isinstance(value, int | float)]
        self._writer.add_event(
            Event(wall_time=time.time(), step=record["step"], summary=Summary(value=values)))

    def close(self) -> None:
        self._writer.close()


def _tag(key: str) -> str:
    if key in TIME_FIELDS:
        return f"time/{key}"
    if key.startswith("heldout_"):
        return f"heldout/{key.removeprefix('heldout_')}"
    if key in ("reward", "pass_rate") or key.startswith("reward_"):
        return f"reward/{key}"
    return f"train/{key}"

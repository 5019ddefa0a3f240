"""The log of a run (metrics.jsonl, samples.jsonl, TensorBoard, wandb), written by rank 0 only."""

import json
import math
import os
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, Any

from r1mega.record import Rollout
from r1mega.record.metric import METRICS, METRICS_FILE, SAMPLES_FILE, TIME_FIELDS, read_jsonl
from r1mega.training.atomic_file import replace_file
from r1mega.training.tensorboard_log import TensorBoardLog
from r1mega.training.wandb_log import WandbLog

__all__ = ["TIME_FIELDS", "RunLog", "sample_record", "same_metrics"]

SYNC_INTERVAL_S = 1.0
ORDER = {name: position for position, name in enumerate(METRICS)}


class RunLog:
    """Appends to the log of one run folder.

    A line is handed to the operating system at once, so that a killed process loses none, and forced to
    disk once a second and by `sync()`. Call `sync()` before a checkpoint counts as complete: the lines up to
    its step then survive a crash of the machine too. Write the evaluation of a step before its checkpoint,
    since a resume at step N keeps every record with step <= N and repeats none.
    """

    def __init__(self, folder: Path, *, last_step: int, tensorboard: bool = True,
                 wandb_project: str | None = None) -> None:
        """Open the folder's log after `last_step`: the checkpoint's step on a resume, -1 for a new run.

        Raises:
            UserError: the existing log is damaged before its last line, or wandb was asked for and is absent.
        """
        self._folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        self._files: dict[str, IO[bytes]] = {}
        self._mirrors: list[TensorBoardLog | WandbLog] = []
        self._cut(last_step)
        if wandb_project is not None:
            self._mirrors.append(WandbLog(folder, wandb_project))
        if tensorboard:
            self._mirrors.append(TensorBoardLog(folder, last_step))
        self._last_line = self._last_sync = time.monotonic()

    def append(self, metrics: Mapping[str, Any]) -> dict[str, Any]:
        """Write one line; `wall_s` is filled in unless given. Returns the record as written.

        Known keys come in the order of `record.metric.METRICS`, others after them by name. Scalars of numpy
        and torch become Python's; NaN and infinities become null.
        """
        now = time.monotonic()
        record = {"wall_s": round(now - self._last_line, 3), **metrics}
        if type(record.get("step")) is not int or "stage" not in record:
            raise ValueError(f"a record needs an integer `step` and a `stage`; its keys are {sorted(record)}")
        self._last_line = now
        record = {key: _plain(record[key]) for key in sorted(record, key=_position)}
        self._write(METRICS_FILE, [record])
        for mirror in self._mirrors:
            mirror.append(record)
        return record

    def samples(self, step: int, records: Sequence[Mapping[str, Any]]) -> None:
        """Write readable completions, one a line (see `sample_record`)."""
        self._write(SAMPLES_FILE, [{"step": step, **_plain(dict(record))} for record in records])

    def sync(self) -> None:
        """Force what was written to disk."""
        for file in self._files.values():
            os.fsync(file.fileno())
        self._last_sync = time.monotonic()

    def close(self) -> None:
        self.sync()
        for file in self._files.values():
            file.close()
        self._files.clear()
        for mirror in self._mirrors:
            mirror.close()
        self._mirrors.clear()

    def __enter__(self) -> "RunLog":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _cut(self, step: int) -> None:
        """Drop what an earlier pass wrote after `step`."""
        for name in (METRICS_FILE, SAMPLES_FILE):
            path = self._folder / name
            if path.exists():
                kept = [record for record in read_jsonl(path) if record["step"] <= step]
                replace_file(path, b"".join(map(_line, kept)))

    def _write(self, name: str, records: Sequence[Mapping[str, Any]]) -> None:
        if name not in self._files:
            self._files[name] = (self._folder / name).open("ab", buffering=0)
        content = b"".join(map(_line, records))
        while content:
            content = content[self._files[name].write(content):]  # an unbuffered write may be short
        if time.monotonic() - self._last_sync > SYNC_INTERVAL_S:
            self.sync()


def sample_record(rollout: Rollout, split: str) -> dict[str, Any]:
    """One readable completion for samples.jsonl. `split` is "train" or "heldout"."""
    problem, score = rollout.problem, rollout.score
    return {
        "split": split, "problem": problem.id, "task": problem.task, "sample": rollout.sample_index,
        "question": problem.question, "answer": problem.answer, "text": rollout.text,
        "reward": score.total, "parts": dict(score.parts), "notes": dict(score.notes),
        "tokens": len(rollout.completion.token_ids), "finish": rollout.completion.finish,
    }


def same_metrics(a: Path, b: Path) -> list[str]:
    """Where two runs' metrics.jsonl differ, times aside; empty when they agree to the last bit.

    `a` and `b` are run folders or metrics files. A difference names line, step, field and both values.
    """
    left, right = (read_jsonl(path / METRICS_FILE if path.is_dir() else path) for path in (a, b))
    differences = []
    for number, (first, second) in enumerate(zip(left, right, strict=False), 1):
        for key in sorted((first.keys() | second.keys()) - TIME_FIELDS, key=_position):
            ours, theirs = (repr(record[key]) if key in record else "absent" for record in (first, second))
            if ours != theirs:
                differences.append(f"line {number}, step {first['step']}: {key} {ours} != {theirs}")
    longer, name = (left, a) if len(left) > len(right) else (right, b)
    differences += [f"line {number}, step {longer[number - 1]['step']}: only in {name}"
                    for number in range(min(len(left), len(right)) + 1, len(longer) + 1)]
    return differences


def _position(key: str) -> tuple[int, str]:
    return ORDER.get(key, len(ORDER)), key


def _line(record: Mapping[str, Any]) -> bytes:
    # Escaped to ASCII: a lone surrogate in a completion is legal JSON that way, and has no UTF-8.
    return json.dumps(record, allow_nan=False).encode() + b"\n"


def _plain(value: Any) -> Any:
    """`value` with Python scalars only, and null for what JSON has no number for."""
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    if hasattr(value, "item"):  # a scalar of numpy or torch
        value = value.item()
    return None if isinstance(value, float) and not math.isfinite(value) else value

"""Problems that an interrupted evaluation has finished: one line each, behind a line that says what was evaluated."""

import json
import os
from pathlib import Path
from typing import Any, BinaryIO, Self

from r1mega.config import UserError


class Partial:
    """SUITE.partial.jsonl. A context manager; `done` has what an earlier start finished, by the problem's key.

    A line is on disk before the next problems are sampled, and one that a kill cut short is sampled again.
    """

    def __init__(self, path: Path, stamp: dict[str, Any]):
        """Opens it. Raises UserError where the file is about something other than `stamp`, OSError from the disk."""
        self._path, self._stamp = path, stamp
        self.done: dict[str, dict[str, Any]] = {}
        self._file = self._open(self._read())

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def add(self, records: list[dict[str, Any]]) -> None:
        """Write finished problems, and force them to disk."""
        self._write(self._file, records)
        self.done.update({record["id"]: record for record in records})

    def remove(self) -> None:
        """Once the results are written."""
        self._path.unlink(missing_ok=True)

    def _read(self) -> int:
        """Take in whole lines; returns how many bytes they have."""
        if not self._path.exists():
            return 0
        data = self._path.read_bytes()
        good = 0
        for number, line in enumerate(data.splitlines(keepends=True)):
            try:
                record = json.loads(line)
            except ValueError:
                break
            if not line.endswith(b"\n"):
                break
            if number == 0 and record != self._stamp:
                raise UserError(f"{self._path}: was begun with {_difference(record, self._stamp)}; finish it with the "
                                "same, name another --output, or remove the file")
            if number > 0:
                self.done[record["id"]] = record
            good += len(line)
        return good

    def _open(self, good_bytes: int) -> BinaryIO:
        """For writing behind what is good of it."""
        file = self._path.open("r+b" if good_bytes else "wb")
        file.truncate(good_bytes)
        file.seek(good_bytes)
        if not good_bytes:
            self._write(file, [self._stamp])
        return file

    @staticmethod
    def _write(file: BinaryIO, records: list[dict[str, Any]]) -> None:
        file.write(b"".join(json.dumps(record, ensure_ascii=False).encode() + b"\n" for record in records))
        file.flush()
        os.fsync(file.fileno())


def _difference(theirs: Any, ours: dict[str, Any]) -> str:
    """The first thing that differs, in words."""
    if not isinstance(theirs, dict):
        return "something else"
    name = next(name for name in [*ours, *theirs] if theirs.get(name) != ours.get(name))
    return f"another {name} ({theirs.get(name)}, now {ours.get(name)})"

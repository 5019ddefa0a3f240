"""What a run of rejection sampling has done: lines in one file of its folder, each on disk before the next wave."""

import hashlib
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Self

from r1mega.config import UserError
from r1mega.stage.chain import ROWS_SO_FAR
from r1mega.stage.rejection_sampler import Samples
from r1mega.stage.rejection_select import Finished

REPLIES = "rejection.replies.jsonl"


class Record:
    """rejection.partial.jsonl: a line that says what was begun, then problems by id, first as `sampled` (where a model
    is still to be asked about them), then as `finished`. A context manager, of rank 0.

    Lines cut short by a kill are done again. Texts stay on disk; memory holds places only.
    """

    def __init__(self, folder: Path, stamp: Mapping[str, Any]):
        """Opens it. Raises UserError where it was begun as something other than `stamp`, OSError from the disk."""
        self._path, self._stamp = folder / ROWS_SO_FAR, dict(stamp)
        self._places: dict[str, dict[str, tuple[int, int]]] = {"sampled": {}, "finished": {}}
        good = self._read()
        self._file = self._path.open("r+b" if good else "w+b")
        self._file.truncate(good)
        if not good:
            self._append([{"begun": self._stamp}])

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def is_sampled(self, problem: str) -> bool:
        return problem in self._places["sampled"] or self.is_finished(problem)

    def is_finished(self, problem: str) -> bool:
        return problem in self._places["finished"]

    def samples(self, problem: str) -> Samples:
        return Samples.from_json(self._at("sampled", problem))

    def finished(self, problem: str) -> Finished:
        return Finished.from_json(self._at("finished", problem))

    def add(self, kind: str, found: Sequence[Samples | Finished]) -> None:
        """Write problems as `kind`, and force them to disk."""
        begins = self._append([{kind: one.to_json()} for one in found])
        for one, place in zip(found, begins, strict=True):
            self._places[kind][one.problem] = place

    def _read(self) -> int:
        """Take in whole lines; returns how many bytes they have."""
        good = 0
        for number, (line, record) in enumerate(whole_lines(self._path)):
            if number == 0:
                _compare(record.get("begun"), self._stamp, self._path)
            else:
                ((kind, fields),) = record.items()
                self._places[kind][fields["problem"]] = (good, len(line))
            good += len(line)
        return good

    def _at(self, kind: str, problem: str) -> dict[str, Any]:
        begin, length = self._places[kind][problem]
        self._file.seek(begin)
        return json.loads(self._file.read(length))[kind]

    def _append(self, records: Sequence[Mapping[str, Any]]) -> list[tuple[int, int]]:
        """Where each line lies: first byte and length."""
        at = self._file.seek(0, os.SEEK_END)
        lines = [_line(record) for record in records]
        self._file.write(b"".join(lines))
        self._file.flush()
        os.fsync(self._file.fileno())
        places = []
        for line in lines:
            places.append((at, len(line)))
            at += len(line)
        return places


class Replies:
    """rejection.replies.jsonl: what an endpoint has answered, so that no kill and no failure after it costs a reply
    (which takes time and money, and would not come out alike twice)."""

    def __init__(self, folder: Path, asked: Mapping[str, Any]):
        """`asked`: which model, and how."""
        self._path = folder / REPLIES
        self._about = json.dumps(asked, sort_keys=True)
        self._known: dict[str, str] = {}
        good = 0
        for line, record in whole_lines(self._path):
            self._known[record["asked"]] = record["reply"]
            good += len(line)
        if self._path.exists():
            os.truncate(self._path, good)

    def get(self, prompt: str) -> str | None:
        return self._known.get(self._key(prompt))

    def add(self, prompt: str, reply: str) -> None:
        key = self._key(prompt)
        self._known[key] = reply
        with self._path.open("ab") as file:
            file.write(_line({"asked": key, "reply": reply}))

    def _key(self, prompt: str) -> str:
        return hashlib.sha256(f"{self._about}\0{prompt}".encode("utf-8", "replace")).hexdigest()


def whole_lines(path: Path) -> Iterator[tuple[bytes, dict[str, Any]]]:
    """Lines with the objects on them, up to the first that is not whole; none of a file that is not there."""
    if not path.exists():
        return
    with path.open("rb") as file:
        for line in file:
            try:
                record = json.loads(line)
            except ValueError:
                return
            if not line.endswith(b"\n") or not isinstance(record, dict):
                return
            yield line, record


def _line(record: Mapping[str, Any]) -> bytes:
    # Escaped to ASCII: a lone surrogate in a completion is legal JSON that way, and has no UTF-8.
    return json.dumps(record).encode() + b"\n"


def _compare(theirs: Any, ours: Mapping[str, Any], path: Path) -> None:
    theirs = theirs if isinstance(theirs, dict) else {}
    for name in [*ours, *theirs]:
        if theirs.get(name) != ours.get(name):
            raise UserError(f"{path}: was begun with another {name} ({theirs.get(name)}, now {ours.get(name)}); go on "
                            "with the same, set name=... for a new run, or remove the file to begin again")

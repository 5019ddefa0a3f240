"""The JSON record of a run: all that the table, the plots and the verdicts are made from. Written after every step."""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from r1mega_kernels.benchmarks.plan import Shape

SCHEMA = 1
MEASURED, REHEARSAL = "measured", "rehearsal on CPU"
KEY = ("operation", "tokens", "vocab", "hidden", "peer")


class Record:
    """data: schema, kind, command, date, machine, versions, plan, deadline, ceilings, self_check, rows.

    A row: KEY, package, version, computes, ours, gradient_in_forward, status; and if the status is "ok": forward,
    backward, both (median_ms, p10_ms, p90_ms, repetitions), first_call_ms, floor_ms, errors, peak_bytes (beside the
    inputs and the results), forward_peak_bytes, result_bytes, modelled_collective_ms.
    """

    def __init__(self, path: Path, data: dict[str, Any]):
        self.path, self.data = path, data

    @classmethod
    def read(cls, path: Path) -> "Record":
        data = json.loads(path.read_text())
        if data.get("schema") != SCHEMA:
            raise ValueError(f"{path}: a record of schema {data.get('schema')}, not {SCHEMA}")
        return cls(path, data)

    def write(self) -> None:
        """Whole or not at all, whenever the process ends."""
        beside = self.path.with_suffix(".part")
        beside.write_text(json.dumps(self.data, indent=1) + "\n")
        os.replace(beside, self.path)

    def row(self, shape: Shape, peer: str) -> dict[str, Any] | None:
        key = (*shape, peer)
        return next((row for row in self.data["rows"] if tuple(row[name] for name in KEY) == key), None)

    def put(self, row: Mapping[str, Any]) -> None:
        """In place of the row with the same key, if there is one."""
        key = [row[name] for name in KEY]
        self.data["rows"] = [old for old in self.data["rows"] if [old[name] for name in KEY] != key] + [dict(row)]
        self.write()


def read_all(folder: Path) -> list[Record]:
    """ValueError if there is none."""
    records = [Record.read(path) for path in sorted(folder.glob("*.json"))]
    if not records:
        raise ValueError(f"{folder}: no record (*.json); make one with logits, linear, grpo or all, and --out")
    return records

"""Putting a folder of checkpoint files on the disk: every rank its share, rank 0 the rest, then the final
name.

No rank talks to another here, so this can run in a background thread while training uses the process groups.
A rank says that it is done by a file, its report; rank 0 waits for all reports. A kill at any point leaves
either nothing under the final name or the whole checkpoint.
"""

import json
import shutil
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from megatron.core.dist_checkpointing.core import CONFIG_FNAME, CheckpointingConfig

from r1mega.training.checkpoint.files import FileRecord, dump_json, sync_folders, write_file
from r1mega.training.checkpoint.index import INDEX, ChunkRow, index_bytes, merge_rows, metadata_pickle
from r1mega.training.checkpoint.manifest import write_manifest
from r1mega.training.checkpoint.naming import publish, writing_folder
from r1mega.training.checkpoint.shards import HostShard, write_shards

_REPORTS = ".reports"
_POLL_S = 0.005


@dataclass(frozen=True)
class WriteJob:
    """One rank's share of a folder, all of it already in host memory."""

    final: Path
    name: str  # what the manifest says the folder is, e.g. step-00000010
    rank: int
    world_size: int
    parts: Mapping[
        str, Sequence[HostShard]
    ]  # subfolder -> this rank's tensors; the same subfolders on all ranks
    files: Mapping[str, bytes] = field(default_factory=dict)  # relative path -> content


class Cancelled(Exception):
    """Another rank's write failed, so this one will never be whole."""


def prepare_folder(final: Path, subfolders: Sequence[str]) -> None:
    """On rank 0, before any rank writes: an empty writing folder with its subfolders. Raises OSError."""
    writing = writing_folder(final)
    final.parent.mkdir(parents=True, exist_ok=True)
    if writing.exists():
        shutil.rmtree(writing)
    for folder in (_REPORTS, *subfolders):
        (writing / folder).mkdir(parents=True)


def run_job(job: WriteJob, cancelled: threading.Event) -> None:
    """Write this rank's share; on rank 0 also wait for the others, finish the folder and give it its name.

    Raises OSError (disk full, no permission, ...), Cancelled, or ValueError if the ranks' tensors do not fit
    together.
    """
    writing = writing_folder(job.final)
    report = _write_share(job, writing)
    path = writing / _REPORTS / f"rank-{job.rank:05d}.json"
    write_file(path.with_suffix(".part"), dump_json(report))
    path.with_suffix(".part").rename(path)
    if job.rank == 0:
        _finish(job, writing, _wait_for_reports(writing / _REPORTS, job.world_size, cancelled))


class BackgroundWrite:
    """A job in a thread of its own."""

    def __init__(self, job: WriteJob, after: Callable[[], None] = lambda: None) -> None:
        """`after` runs in the thread once the job is done, e.g. to prune."""
        self._cancelled = threading.Event()
        self.error: str | None = None
        self._thread = threading.Thread(
            target=self._run, args=(job, after), name=f"write {job.name}", daemon=True
        )
        self._thread.start()

    @property
    def running(self) -> bool:
        return self._thread.is_alive()

    def wait(self, timeout_s: float) -> None:
        self._thread.join(timeout_s)

    def cancel(self) -> None:
        """Give up waiting for the other ranks."""
        self._cancelled.set()

    def _run(self, job: WriteJob, after: Callable[[], None]) -> None:
        try:
            run_job(job, self._cancelled)
            after()
        except Cancelled:
            self.error = ""
        except OSError as error:
            where = error.filename or writing_folder(job.final)
            self.error = f"{where}: {error.strerror or error} (rank {job.rank})"
        except Exception as error:  # surfaces at the next poll, on all ranks
            self.error = f"{writing_folder(job.final)}: {type(error).__name__}: {error} (rank {job.rank})"


def _write_share(job: WriteJob, writing: Path) -> dict[str, Any]:
    files: dict[str, FileRecord] = {}
    parts: dict[str, Any] = {}
    for part, shards in job.parts.items():
        if shards or job.rank == 0:
            rows, record, common_state = write_shards(writing / part, job.rank, shards)
            files[f"{part}/{common_state.file}"] = record
            parts[part] = {
                "rows": [row.to_json() for row in rows],
                "common_state": list(asdict(common_state).values()),
            }
    for name, content in job.files.items():
        (writing / name).parent.mkdir(parents=True, exist_ok=True)
        files[name] = write_file(writing / name, content)
    return {"files": {name: asdict(record) for name, record in files.items()}, "parts": parts}


def _wait_for_reports(folder: Path, num_ranks: int, cancelled: threading.Event) -> list[dict[str, Any]]:
    wait_s = _POLL_S
    while True:
        paths = sorted(folder.glob("rank-*.json"))
        if len(paths) == num_ranks:
            return [json.loads(path.read_bytes()) for path in paths]
        if cancelled.wait(wait_s):
            raise Cancelled
        wait_s = min(2 * wait_s, 0.5)


def _finish(job: WriteJob, writing: Path, reports: Sequence[Mapping[str, Any]]) -> None:
    files = {name: FileRecord(**record) for report in reports for name, record in report["files"].items()}
    for part in job.parts:
        written = [report["parts"][part] for report in reports if part in report["parts"]]
        files |= _write_index(writing, part, written)
    shutil.rmtree(writing / _REPORTS)
    write_manifest(writing, job.name, files)
    sync_folders(writing)
    publish(writing, job.final)


def _write_index(writing: Path, part: str, written: Sequence[Mapping[str, Any]]) -> dict[str, FileRecord]:
    index = merge_rows(ChunkRow.from_json(row) for report in written for row in report["rows"])
    common_state = ChunkRow.from_json(["", "", (), written[0]["common_state"]]).chunk
    contents = {
        INDEX: index_bytes(index),
        ".metadata": metadata_pickle(index, common_state),
        CONFIG_FNAME: dump_json(asdict(CheckpointingConfig("torch_dist", 1))),
    }
    return {
        f"{part}/{name}": write_file(writing / part / name, content) for name, content in contents.items()
    }

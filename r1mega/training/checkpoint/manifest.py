"""manifest.json: the size and SHA-256 of every other file of a folder, written last; and the check against
it."""

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch.distributed as dist

from r1mega.config import UserError
from r1mega.training.checkpoint.files import FileRecord, dump_json, hash_file, write_file

MANIFEST = "manifest.json"
FORMAT = 1
_SHA256 = re.compile(r"[0-9a-f]{64}\Z")


class DamagedError(UserError):
    """A file of a checkpoint is not what its manifest says, or the manifest itself is not sound."""


def write_manifest(folder: Path, name: str, files: Mapping[str, FileRecord]) -> None:
    """Write folder/manifest.json for `files` (relative POSIX path -> record); `name` says which folder it is
    of."""
    write_file(folder / MANIFEST, _manifest_bytes(name, files))


def read_manifest(folder: Path, name: str | None = None) -> dict[str, FileRecord]:
    """The records of folder/manifest.json, if it is sound.

    Sound: byte for byte what `write_manifest` writes for these records, its own checksum included, so that
    any flipped bit shows; and made for `name`, where that is given, so that no other folder's manifest
    passes. Raises DamagedError in one line.
    """
    path = folder / MANIFEST
    try:
        content = path.read_bytes()
    except OSError as error:
        raise DamagedError(
            f"{path}: {error.strerror or error}; without it the folder is not a whole checkpoint"
        ) from None
    try:
        fields = json.loads(content)
        files = {_safe_path(file): _record(record) for file, record in fields["files"].items()}
        made_for = str(fields["name"])
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise DamagedError(f"{path}: not a manifest ({type(error).__name__}: {str(error)[:80]})") from None
    if content != _manifest_bytes(made_for, files):
        raise DamagedError(f"{path}: its own checksum does not match its content")
    if name is not None and made_for != name:
        raise DamagedError(f"{path}: made for {made_for}, not for {name}; was the folder renamed or swapped?")
    return files


def verify_folder(folder: Path, name: str | None = None) -> None:
    """Check every file against the manifest. Collective: the hashing is shared out over all ranks by size.

    Raises DamagedError on all ranks alike, in one line: the file, what was expected and what is there.
    """
    answer: list[Any] = [None]
    if dist.get_rank() == 0:
        try:
            answer = [read_manifest(folder, name)]
        except DamagedError as error:
            answer = [str(error)]
    dist.broadcast_object_list(answer, src=0)
    if isinstance(answer[0], str):
        raise DamagedError(answer[0])
    mine = _share(answer[0], dist.get_rank(), dist.get_world_size())
    found = [problem for file in mine if (problem := _compare(folder, file, answer[0][file]))]
    everybody: list[list[str]] = [[] for _ in range(dist.get_world_size())]
    dist.all_gather_object(everybody, found)
    problems = sorted(problem for rank in everybody for problem in rank)
    if problems:
        more = f" (and {len(problems) - 1} more files)" if len(problems) > 1 else ""
        raise DamagedError(problems[0] + more)


def _manifest_bytes(name: str, files: Mapping[str, FileRecord]) -> bytes:
    fields = {
        "format": FORMAT,
        "name": name,
        "files": {file: {"size": record.size, "sha256": record.sha256} for file, record in files.items()},
    }
    return dump_json({**fields, "sha256": hashlib.sha256(dump_json(fields)).hexdigest()})


def _record(fields: Any) -> FileRecord:
    if type(fields["size"]) is not int or not _SHA256.match(fields["sha256"]):
        raise ValueError(f"bad record {fields}")
    return FileRecord(fields["size"], fields["sha256"])


def _safe_path(file: str) -> str:
    if not file or file.startswith("/") or ".." in file.split("/") or "\0" in file:
        raise ValueError(f"bad path {file!r}")
    return file


def _share(files: Mapping[str, FileRecord], rank: int, world_size: int) -> Sequence[str]:
    """This rank's files: largest first, each to the rank with the fewest bytes so far."""
    load = [0] * world_size
    mine = []
    for file in sorted(files, key=lambda file: (-files[file].size, file)):
        target = load.index(min(load))
        load[target] += files[file].size + 1
        if target == rank:
            mine.append(file)
    return mine


def _compare(folder: Path, file: str, expected: FileRecord) -> str | None:
    path = folder / file
    try:
        actual = hash_file(path)
    except OSError as error:
        return f"{path}: {error.strerror or error}; expected {expected.size} bytes, sha256 {expected.sha256}"
    if actual == expected:
        return None
    return (f"{path}: {actual.size} bytes, sha256 {actual.sha256}; "
            f"expected {expected.size} bytes, sha256 {expected.sha256}")

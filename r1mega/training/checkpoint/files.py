"""Files that survive a crash: written, hashed on the way, flushed to the disk, and named only when whole."""

import hashlib
import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True, slots=True)
class FileRecord:
    """What a file must be: its length in bytes and the SHA-256 (hex) of what we meant to write."""

    size: int
    sha256: str


class HashedFile:
    """A file open for writing that hashes what passes through, so the record tells of intent, not of the
    disk."""

    def __init__(self, path: Path) -> None:
        self._stream = path.open("xb")
        self._hash = hashlib.sha256()
        self._size = 0

    def write(self, data: Any) -> int:
        """Append bytes (anything with the buffer protocol)."""
        view = memoryview(data).cast("B")
        self._hash.update(view)
        self._stream.write(view)
        self._size += len(view)
        return len(view)

    def flush(self) -> None:
        self._stream.flush()

    def tell(self) -> int:
        return self._size

    def finish(self) -> FileRecord:
        """Flush to the disk and close."""
        self._stream.flush()
        os.fsync(self._stream.fileno())
        self._stream.close()
        return FileRecord(self._size, self._hash.hexdigest())

    def abandon(self) -> None:
        self._stream.close()


def write_file(path: Path, data: bytes) -> FileRecord:
    """Write a new file and flush it to the disk. Raises OSError; a file already there is one."""
    file = HashedFile(path)
    try:
        file.write(data)
        return file.finish()
    except BaseException:
        file.abandon()
        raise


def dump_json(value: Any) -> bytes:
    """The one way we write JSON: sorted keys, so that equal content is equal bytes."""
    return (json.dumps(value, indent=1, sort_keys=True) + "\n").encode()


def hash_file(path: Path) -> FileRecord:
    """Size and SHA-256 of a file as it is on the disk. Raises OSError."""
    with path.open("rb") as stream:
        digest = hashlib.file_digest(stream, "sha256")
        return FileRecord(stream.tell(), digest.hexdigest())


def sync_folders(root: Path) -> None:
    """Flush the names inside `root` and its subfolders to the disk."""
    for folder, _, _ in os.walk(root):
        sync_folder(Path(folder))


def sync_folder(folder: Path) -> None:
    """Flush the names in one folder (a rename is safe only after this)."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)

"""Replace a file so that a reader, or a restart after a kill, sees either the old bytes or the new ones."""

import os
from pathlib import Path


def replace_file(path: Path, content: bytes) -> None:
    """Write to a neighbour, force it to disk, rename it over `path`, force the rename to disk."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with temporary.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)

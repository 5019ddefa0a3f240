"""Where a value of a recipe came from."""

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Origin:
    """A line of a file, an override on the command line, or (neither) the default."""

    file: Path | None = None
    line: int | None = None
    override: str | None = None

    @property
    def folder(self) -> Path:
        """What a relative path set here is relative to."""
        return self.file.parent if self.file else Path.cwd()

    def __str__(self) -> str:
        if self.override is not None:
            return "command line"
        if self.file is None:
            return "default"
        return shown(self.file) + (f":{self.line}" if self.line else "")


DEFAULT = Origin()


def shown(path: Path) -> str:
    """A path as a person would write it: relative to the current folder where it lies below it."""
    try:
        return str(path.resolve().relative_to(Path.cwd()))
    except ValueError:
        return str(path)

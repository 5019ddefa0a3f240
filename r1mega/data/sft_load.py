"""Demonstrations from the sources of a recipe, one after the other."""

from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

from r1mega.config.error import UserError
from r1mega.config.sft import SampleFiles, SampleSet, SftConfig
from r1mega.data.file_rows import file_rows
from r1mega.data.hugging_face_problems import hugging_face_rows
from r1mega.data.sft_row import Demonstration, row_to_demonstration


def load_demonstrations(config: SftConfig, base_dir: Path) -> Iterator[tuple[int, Demonstration]]:
    """(number of its source, demonstration), in the order of the sources. Nothing is kept: a mix may not fit memory.

    `base_dir` is the recipe's folder, against which relative paths are read. Raises UserError for anything wrong in
    the recipe or the files, and for two rows with one id.
    """
    seen: dict[str, str] = {}
    for number, source in enumerate(config.sources):
        where = f"sft.sources[{number}]"
        found = 0
        for origin, row in islice(_rows(source, base_dir, where), source.limit):
            demonstration = row_to_demonstration(row, source.fields, source.name, origin)
            if source.fields.id in row and row[source.fields.id] is not None:
                if demonstration.id in seen:
                    raise UserError(f"{origin}: id={demonstration.id!r} is that of {seen[demonstration.id]} too; give "
                                    f"each sample its own (fields.id), or leave ids out")
                seen[demonstration.id] = origin
            found += 1
            yield number, demonstration
        if not found:
            raise UserError(f"{where}: kind={source.kind} holds no samples; check its path or split, or take it out")


def _rows(source: SampleFiles | SampleSet, base_dir: Path, where: str) -> Iterator[tuple[str, Any]]:
    if isinstance(source, SampleSet):
        yield from hugging_face_rows(source, source.subset, base_dir, where)
        return
    for path in source.paths:
        yield from file_rows(path, base_dir, where)

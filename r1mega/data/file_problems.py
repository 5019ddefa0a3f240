"""Problems from local JSONL and parquet files."""

from pathlib import Path

from r1mega.config.data import FilesSource
from r1mega.config.error import UserError
from r1mega.data.file_rows import file_rows
from r1mega.data.row import row_to_problem
from r1mega.record import Problem


def file_problems(source: FilesSource, base_dir: Path, where: str) -> list[Problem]:
    """The problems of every file, in order; the task of each is its file's stem."""
    problems = []
    for text in source.paths:
        path = base_dir / text
        found = [row_to_problem(row, source.fields, source.scorer, path.stem, origin)
                 for origin, row in file_rows(text, base_dir, where)]
        if not found:
            raise UserError(f"{path}: no problems in it; remove it from {where}.paths, or fill it")
        problems += found
    return problems

"""Rows of a suite, in the formats in which benchmarks are published."""

import csv
import gzip
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from r1mega.config.error import UserError
from r1mega.config.suite import SuiteFiles, SuiteHub

ENDINGS = (".jsonl", ".json", ".csv", ".parquet", ".jsonl.gz", ".json.gz", ".csv.gz")
MAX_CELL = 2**24  # characters of one CSV cell; Python's own limit is shorter than some passages

type Row = tuple[str, Any]  # "aime.jsonl:3", and what stands there


def suite_rows(source: SuiteFiles | SuiteHub, folder: Path) -> Iterator[Row]:
    """Every row with a name for messages. `folder`: of the suite's file. Raises UserError."""
    if isinstance(source, SuiteHub):
        yield from _dataset_rows(source, folder)
        return
    for text in source.paths:
        path = folder / text
        try:
            yield from _file_rows(path)
        except OSError as error:
            raise UserError(f"{path}: {error.strerror or error}; paths in a suite are relative to its file") from None
        except UnicodeDecodeError:
            raise UserError(f"{path}: is not UTF-8 text; save it as UTF-8") from None


def _file_rows(path: Path) -> Iterator[Row]:
    ending = "".join(path.suffixes[-2:]) if path.suffix == ".gz" else path.suffix
    match ending.removesuffix(".gz"):
        case ".parquet" if path.suffix != ".gz":
            yield from _parquet_rows(path)
        case ".jsonl" | ".json":
            yield from _json_rows(path)
        case ".csv":
            csv.field_size_limit(MAX_CELL)
            with _open(path) as file:
                reader = csv.DictReader(file)
                for row in reader:
                    yield f"{path.name}:{reader.line_num}", row
        case _:
            raise UserError(f"{path}: unknown ending {path.suffix!r}; legal: {', '.join(ENDINGS)}")


def _json_rows(path: Path) -> Iterator[Row]:
    """One list over the whole file, or one object a line."""
    with _open(path) as file:
        if file.read(1) == "[":
            file.seek(0)
            try:
                rows = json.load(file)
            except (ValueError, RecursionError) as error:
                raise UserError(f"{path}: bad JSON ({error})") from None
            yield from ((f"{path.name}: element {number}", row) for number, row in enumerate(rows, 1))
            return
        file.seek(0)
        for number, line in enumerate(file, 1):
            if line.strip():
                try:
                    yield f"{path.name}:{number}", json.loads(line)
                except (ValueError, RecursionError) as error:
                    raise UserError(f"{path}:{number}: bad JSON ({error}); every line must be one object") from None


def _parquet_rows(path: Path) -> Iterator[Row]:
    import pyarrow
    import pyarrow.parquet

    try:
        rows = pyarrow.parquet.read_table(path).to_pylist()
    except FileNotFoundError:
        raise
    except (pyarrow.ArrowException, OSError) as error:
        raise UserError(f"{path}: not a readable parquet file ({_first_line(error)})") from None
    yield from ((f"{path.name}: row {number}", row) for number, row in enumerate(rows, 1))


def _dataset_rows(source: SuiteHub, folder: Path) -> Iterator[Row]:
    import datasets  # 2.5 s, only paid for by suites that name a dataset

    datasets.disable_progress_bars()
    local = folder / source.path
    path = str(local) if local.is_dir() else source.path
    try:
        rows = datasets.load_dataset(path, source.name, split=source.split, revision=source.revision)
    except Exception as error:  # the library raises its own, pyarrow's, fsspec's and httpx's errors
        raise UserError(f"source.path={source.path!r} split={source.split!r}: cannot be loaded ({_first_line(error)}); "
                        "check path, name and split, or download the files and use kind = \"files\"") from None
    yield from ((f"{source.path}[{source.split}] row {number}", row) for number, row in enumerate(rows, 1))


def _open(path: Path):
    return gzip.open(path, "rt", encoding="utf-8-sig") if path.suffix == ".gz" else path.open(
        encoding="utf-8-sig", newline="")


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0][:200]

"""Rows of local JSONL and parquet files, each with where it is from."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from r1mega.config.data import DATA_ENDINGS, JSONL_ENDINGS
from r1mega.config.error import UserError


def file_rows(text: str, base_dir: Path, where: str) -> Iterator[tuple[str, Any]]:
    """("samples.jsonl:17", row) of every row of the file that a recipe calls `text`; `where` is the key that names it.

    Raises UserError for a file or a line that cannot be read.
    """
    path = base_dir / text
    if not path.exists():
        raise UserError(f"{where}: paths={text!r}: no such file ({path}); paths are relative to the "
                        "recipe")
    if path.is_dir():
        raise UserError(f"{where}: paths={text!r} is a folder; name its files (*.jsonl, *.parquet), or "
                        "use kind=huggingface for a dataset folder")
    if path.suffix not in DATA_ENDINGS:
        raise UserError(f"{where}: paths={text!r}: unknown ending {path.suffix!r}; "
                        f"legal: {', '.join(DATA_ENDINGS)} (all but the last with one object a line)")
    try:
        yield from _jsonl_rows(path) if path.suffix in JSONL_ENDINGS else _parquet_rows(path)
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror or error}); check its permissions and its "
                        "disk") from None


def _jsonl_rows(path: Path) -> Iterator[tuple[str, Any]]:
    with path.open("rb") as file:
        for number, raw in enumerate(file, start=1):
            origin = f"{path}:{number}"
            try:
                line = raw.decode("utf-8-sig" if number == 1 else "utf-8")
            except UnicodeDecodeError as error:
                raise UserError(
                    f"{origin}: byte {error.start + 1} is not UTF-8; save the file as UTF-8"
                ) from None
            if line.strip():
                yield origin, _json_line(line, origin)


def _json_line(line: str, origin: str) -> Any:
    try:
        return json.loads(line)
    except json.JSONDecodeError as error:
        hint = ("; the file must hold one object a line, not one list over many lines"
                if line.strip() in ("[", "{") else "; every line must be one JSON object")
        raise UserError(f"{origin}: column {error.colno}: bad JSON ({error.msg}){hint}") from None
    except RecursionError:
        raise UserError(f"{origin}: JSON nested too deeply; a problem is one flat object a line") from None
    except ValueError as error:  # an integer of thousands of digits
        raise UserError(f"{origin}: bad JSON ({error}); write very long numbers as text") from None


def _parquet_rows(path: Path) -> Iterator[tuple[str, Any]]:
    import pyarrow  # 0.3 s, only paid for by recipes that name a parquet file
    import pyarrow.parquet

    try:
        table = pyarrow.parquet.read_table(path)
    except (pyarrow.ArrowException, OSError) as error:
        raise UserError(
            f"{path}: not a readable parquet file ({_first_line(error)}); write it again"
        ) from None
    for number in range(table.num_rows):
        origin = f"{path}: row {number + 1}"
        try:
            (row,) = table.slice(number, 1).to_pylist()
        except UnicodeDecodeError as error:
            raise UserError(f"{origin}: byte {error.start + 1} of a text is not UTF-8; write the file with UTF-8 "
                            "texts") from None
        yield origin, row


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0][:160]

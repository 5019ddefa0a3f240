"""Problems from a Hugging Face dataset: on the hub, or a local folder."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from r1mega.config.data import HuggingFaceSource
from r1mega.config.error import UserError
from r1mega.config.sft import SampleSet
from r1mega.data.row import row_to_problem
from r1mega.record import Problem


def hugging_face_problems(source: HuggingFaceSource, base_dir: Path, where: str) -> list[Problem]:
    """The problems of one split. A path that exists under `base_dir` is a folder, any other a name on the
    hub."""
    task = Path(source.path).name
    return [row_to_problem(row, source.fields, source.scorer, task, origin)
            for origin, row in hugging_face_rows(source, source.name, base_dir, where)]


def hugging_face_rows(
    source: HuggingFaceSource | SampleSet, name: str | None, base_dir: Path, where: str
) -> Iterator[tuple[str, Any]]:
    """("dataset[train] row 3", row) of every row of one split. Raises UserError."""
    local = base_dir / source.path
    is_local = local.exists()
    if source.path.startswith((".", "/", "~")) and not is_local:
        raise UserError(f"{where}: path={source.path!r}: no such folder ({local}); paths are relative to the "
                        "recipe")
    if local.is_file():
        raise UserError(f"{where}: path={source.path!r}: is a file; name its folder, or use kind=files with paths")
    if is_local and not any(entry.is_file() for entry in local.rglob("*")):
        raise UserError(f"{where}: path={source.path!r}: the folder is empty; put *.jsonl or *.parquet files "
                        "in it")
    dataset = _load(source, name, str(local) if is_local else source.path, where)
    for number, row in enumerate(dataset, start=1):
        yield f"{source.path}[{source.split}] row {number}", row


def _load(source: HuggingFaceSource | SampleSet, name: str | None, path: str, where: str) -> Any:
    import datasets  # 2.5 s, only paid for by recipes that name such a dataset

    datasets.disable_progress_bars()
    named = f"{where}: path={source.path!r}" + (f" name={name!r}" if name else "")
    try:
        return datasets.load_dataset(path, name, split=source.split)
    except datasets.exceptions.DatasetNotFoundError as error:
        raise UserError(
            f"{named}: not found, or not open to you ({_first_line(error)}); check the name, log "
            "in with `hf auth login`, or use a local folder"
        ) from None
    except (ConnectionError, TimeoutError) as error:
        raise UserError(
            f"{named}: the hub cannot be reached ({_first_line(error)}); download the dataset "
            "where there is a network and give its folder as path"
        ) from None
    except Exception as error:  # the library raises its own, pyarrow's, fsspec's and httpx's errors
        if "split" in str(error).lower():
            raise UserError(f"{named}: split={source.split!r}: {_first_line(error)}") from None
        raise UserError(
            f"{named}: cannot be loaded ({_first_line(error)}); check path, name and split"
        ) from None


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0][:200]

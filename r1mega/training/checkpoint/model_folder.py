"""A model folder: model.json, weights/, maybe tokenizer/, manifest.json. Every checkpoint is one too."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import ValidationError
from torch.nn import Module

from r1mega.config import ModelConfig, UserError
from r1mega.training.checkpoint.files import dump_json
from r1mega.training.checkpoint.manifest import verify_folder
from r1mega.training.checkpoint.shards import hold_shards
from r1mega.training.checkpoint.together import begin_write, failing_together, finish_write, raise_together
from r1mega.training.checkpoint.weights import load_weights, sharded_weights
from r1mega.training.checkpoint.write import BackgroundWrite, WriteJob

if TYPE_CHECKING:
    from r1mega.parallel import Groups

MODEL = "model.json"
WEIGHTS = "weights"
TOKENIZER = "tokenizer"


def save_model_folder(
    folder: Path,
    chunks: Sequence[Module],
    model_config: ModelConfig,
    groups: "Groups",
    tokenizer_dir: Path | None = None,
) -> None:
    """Write a new model folder. Collective. Raises UserError, on all ranks, if it is there already or cannot
    be written; then nothing is left under its name."""
    there = groups.rank == 0 and folder.exists() and (not folder.is_dir() or any(folder.iterdir()))
    raise_together(f"{folder}: exists and is not empty; remove it or name another" if there else None)
    begin_write(folder, [WEIGHTS], groups)
    files = model_files(model_config, tokenizer_dir) if groups.rank == 0 else {}
    parts = {WEIGHTS: hold_shards(sharded_weights(chunks, groups))}
    write = BackgroundWrite(WriteJob(folder, "model", groups.rank, groups.world_size, parts, files))
    finish_write(write, groups)


def load_model_folder(folder: Path, chunks: Sequence[Module], groups: "Groups") -> None:
    """Fill the models in place with the weights of `folder`, written under any layout, after checking every
    file.

    Collective. An optimizer made before has to be told (`reload_model_params`): it keeps master weights of
    its own. Raises UserError, on all ranks, in one line.
    """
    verify_folder(folder)
    with failing_together(folder):
        load_weights(folder / WEIGHTS, chunks, groups)


def read_model_config(folder: Path) -> ModelConfig:
    """The config in folder/model.json. Raises UserError in one line."""
    path = folder / MODEL
    try:
        return ModelConfig.model_validate_json(path.read_bytes())
    except OSError as error:
        raise UserError(
            f"{path}: {error.strerror or error}; a model folder holds model.json and weights/"
        ) from None
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(map(str, first["loc"]))
        raise UserError(f"{path}: {key or 'model'}: {first['msg']}") from None


def model_files(model_config: ModelConfig, tokenizer_dir: Path | None) -> dict[str, bytes]:
    """The small files of a model folder, by relative path. Raises UserError if the tokenizer cannot be
    read."""
    files = {MODEL: dump_json(model_config.model_dump(mode="json"))}
    if tokenizer_dir is not None:
        try:
            paths = [path for path in sorted(tokenizer_dir.rglob("*")) if path.is_file()]
            for path in paths:
                files[f"{TOKENIZER}/{path.relative_to(tokenizer_dir).as_posix()}"] = path.read_bytes()
        except OSError as error:
            raise UserError(f"{tokenizer_dir}: {error.strerror or error}") from None
    return files

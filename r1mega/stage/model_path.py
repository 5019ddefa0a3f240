"""From what a user calls a model to its folder."""

import hashlib
import json
import os
import sys
from pathlib import Path

from r1mega.config import ModelConfig, UserError
from r1mega.config.data import ChatTemplate
from r1mega.data.chat_template import FILE, load_template


def find_model(path: Path) -> Path:
    """A model folder or checkpoint as it is; of a run folder the newest checkpoint. Raises UserError."""
    if (path / "model.json").exists():
        return path
    steps = sorted((path / "checkpoints").glob("step-*/manifest.json"))
    if not steps:
        raise UserError(f"{path}: no model there; give a model folder (model.json, weights/), a checkpoint or a "
                        "run folder")
    return steps[-1].parent


def weights_digest(model: Path) -> str:
    """SHA-256 of what its manifest says of the files that make the model: configuration, weights and tokenizer, but not
    an optimizer's state. Raises UserError."""
    from r1mega.training.checkpoint.manifest import DamagedError, read_manifest
    from r1mega.training.checkpoint.model_folder import MODEL, TOKENIZER, WEIGHTS

    try:
        records = read_manifest(model)
    except DamagedError as error:
        raise UserError(str(error)) from None
    own = {name: str(record) for name, record in records.items() if name.split("/")[0] in (MODEL, TOKENIZER, WEIGHTS)}
    return hashlib.sha256(json.dumps(own, sort_keys=True).encode()).hexdigest()


def template_of(model: Path) -> ChatTemplate:
    """The chat template the model was trained with, or (and rank 0 says so) the default one."""
    template = load_template(model / "tokenizer")
    if template is None and int(os.environ.get("RANK", "0")) == 0:
        print(f"{model}: knows no chat template of its own (tokenizer/{FILE}); taking the default of "
              "tokenizer.template", file=sys.stderr)
    return template or ChatTemplate()


def max_new_tokens(model: ModelConfig, longest_prompt: int, wanted: int | None) -> int:
    """As many as fit, or as wanted."""
    room = model.max_context - longest_prompt
    if room < 1:
        raise UserError(f"a prompt of {longest_prompt} tokens leaves no room to answer (model.max_context="
                        f"{model.max_context}); shorten it")
    return room if wanted is None else min(wanted, room)

"""The tokenizer's files on their way between a Hugging Face folder and a model folder."""

from pathlib import Path

from r1mega.config import UserError
from r1mega.data.chat_template import FILE as TEMPLATE
from r1mega.data.tokenizer import Tokenizer
from r1mega.training.checkpoint.model_folder import TOKENIZER

NAMES = ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json", "vocab.json",
         "merges.txt", "tokenizer.model", "chat_template.jinja", TEMPLATE)


def tokenizer_files(hf_dir: Path) -> dict[str, bytes]:
    """Contents of those that are there, by their path in a model folder. Raises UserError."""
    try:
        return {f"{TOKENIZER}/{name}": (hf_dir / name).read_bytes() for name in NAMES if (hf_dir / name).is_file()}
    except OSError as error:
        raise UserError(f"{error.filename}: {error.strerror}") from None


def token_ids(folder: Path) -> dict[str, int]:
    """What config.json says of the tokenizer in `folder`; nothing if there is none."""
    if not (folder / "tokenizer.json").is_file():
        return {}
    tokenizer = Tokenizer.load(folder)
    return {"eos_token_id": tokenizer.eos_id, "pad_token_id": tokenizer.pad_id}

"""Text to token ids and back: one thin class over a `tokenizers` tokenizer, whoever made it."""

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Self

import tokenizers

from r1mega.config.error import UserError

CONFIG_FILE = "tokenizer_config.json"
TOKENIZER_FILE = "tokenizer.json"


class Tokenizer:
    """A tokenizer with its end-of-sequence and padding tokens.

    `eos_id` ends a sequence; `pad_id` fills up packs (the same as `eos_id` where the tokenizer has none of
    its own); `vocab_size` counts added tokens; `special_texts` are the texts of the tokens that `encode` only
    makes on request; `unknown_id` stands for characters that are in no token, where there may be such.
    """

    def __init__(self, backend: tokenizers.Tokenizer, eos_token: str, pad_token: str | None = None):
        """Raises ValueError if a token is not in the vocabulary."""
        self._backend = backend
        self.eos_token = eos_token
        self.pad_token = pad_token or eos_token
        self.eos_id = self._id(self.eos_token)
        self.pad_id = self._id(self.pad_token)
        self.vocab_size = max(backend.get_vocab(with_added_tokens=True).values()) + 1
        unknown = getattr(backend.model, "unk_token", None)
        self.unknown_id = None if unknown is None else backend.token_to_id(unknown)
        self.special_texts = tuple(token.content for token in backend.get_added_tokens_decoder().values()
                                   if token.special)

    def encode(self, text: str, parse_special: bool = False) -> list[int]:
        """Token ids, nothing added at the ends.

        Text that looks like a special token ("<eos>") is ordinary text unless `parse_special`: data must not
        be able to end its own sequence. Think and answer tags are never special.
        """
        self._backend.encode_special_tokens = not parse_special
        return self._backend.encode(text, add_special_tokens=False).ids

    def encode_many(self, texts: Sequence[str]) -> list[list[int]]:
        """`encode` of every text, several times as fast for long lists."""
        self._backend.encode_special_tokens = True
        return [
            encoding.ids for encoding in self._backend.encode_batch(list(texts), add_special_tokens=False)
        ]

    def decode(self, token_ids: Sequence[int], skip_special: bool = False) -> str:
        """The text of `token_ids`; `skip_special` leaves out padding and end of sequence, never the tags.

        Ids of padding rows of the embedding (`vocab_size` and above) give no text.
        """
        return self._backend.decode(list(token_ids), skip_special_tokens=skip_special)

    def save(self, folder: Path) -> None:
        """Write `folder`/tokenizer.json and tokenizer_config.json, which transformers' AutoTokenizer reads
        too."""
        folder.mkdir(parents=True, exist_ok=True)
        self._backend.encode_special_tokens = False  # how others expect to find it
        self._backend.save(str(folder / TOKENIZER_FILE))
        about = {"tokenizer_class": "PreTrainedTokenizerFast", "eos_token": self.eos_token,
                 "pad_token": self.pad_token, "clean_up_tokenization_spaces": False}
        (folder / CONFIG_FILE).write_text(
            json.dumps(about, indent=2, ensure_ascii=False) + "\n", encoding="utf-8"
        )

    def digest(self) -> str:
        """SHA-256 of all that decides what it makes of a text."""
        self._backend.encode_special_tokens = False
        content = json.dumps([self._backend.to_str(), self.eos_token, self.pad_token])
        return hashlib.sha256(content.encode()).hexdigest()

    @classmethod
    def load(cls, path_or_name: str | Path) -> Self:
        """A folder with a tokenizer.json (ours or anyone's), else what transformers' AutoTokenizer finds
        there.

        Raises UserError when there is none, or it lacks an end-of-sequence token.
        """
        folder = Path(path_or_name)
        if (folder / TOKENIZER_FILE).is_file():
            backend, eos, pad = _read_folder(folder)
        else:
            backend, eos, pad = _read_with_transformers(str(path_or_name))
        if not eos:
            raise UserError(f"{path_or_name}: tokenizer has no end-of-sequence token; set eos_token in "
                            f"{folder / CONFIG_FILE}")
        try:
            return cls(backend, eos, pad)
        except ValueError as error:
            raise UserError(f"{path_or_name}: {error}; set eos_token and pad_token in {CONFIG_FILE} to "
                            f"tokens of {TOKENIZER_FILE}") from None

    def _id(self, token: str) -> int:
        token_id = self._backend.token_to_id(token)
        if token_id is None:
            raise ValueError(f"token {token!r} is not in the vocabulary")
        return token_id


def _read_folder(folder: Path) -> tuple[tokenizers.Tokenizer, str | None, str | None]:
    try:
        backend = tokenizers.Tokenizer.from_file(str(folder / TOKENIZER_FILE))
    except Exception as error:  # the library raises a bare Exception
        raise UserError(
            f"{folder / TOKENIZER_FILE}: not a tokenizer ({str(error)[:160]}); copy it again"
        ) from None
    backend.no_truncation()
    backend.no_padding()
    about_file = folder / CONFIG_FILE
    if not about_file.is_file():
        raise UserError(
            f"{about_file}: missing; it names the end of sequence, e.g. {{\"eos_token\": \"<eos>\"}}"
        )
    try:
        about = json.loads(about_file.read_text(encoding="utf-8"))
    except ValueError as error:
        raise UserError(f"{about_file}: bad JSON ({error}); copy it again") from None
    if not isinstance(about, dict):
        raise UserError(f"{about_file}: must hold one object, e.g. {{\"eos_token\": \"<eos>\"}}")
    return backend, _token_text(about.get("eos_token")), _token_text(about.get("pad_token"))


def _token_text(value: object) -> str | None:
    """transformers writes a token as its text or as an object with the text under "content"."""
    text = value.get("content") if isinstance(value, dict) else value
    return text if isinstance(text, str) else None


def _read_with_transformers(name: str) -> tuple[tokenizers.Tokenizer, str | None, str | None]:
    from transformers import AutoTokenizer  # 4 s, only paid for by names on the hub and old folders

    if name.startswith((".", "/", "~")) and not Path(name).exists():
        raise UserError(f"tokenizer.path={name!r}: no such folder")
    try:
        found = AutoTokenizer.from_pretrained(name, trust_remote_code=False)
    except Exception as error:  # OSError, ValueError, ImportError, the hub's and httpx's own
        reason = (str(error).strip() or type(error).__name__).splitlines()[0][:200]
        raise UserError(f"tokenizer.path={name!r}: cannot be loaded ({reason}); use a folder with a "
                        f"{TOKENIZER_FILE}, or a hub name where there is a network") from None
    if not found.is_fast:
        raise UserError(f"tokenizer.path={name!r}: only fast tokenizers work (those with a {TOKENIZER_FILE})")
    return found.backend_tokenizer, found.eos_token, found.pad_token

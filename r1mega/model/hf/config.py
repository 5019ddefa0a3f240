"""config.json of a Hugging Face folder, and our ModelConfig: which architecture it is. Torch-free.

Fields that change what the model computes are either carried over or must have the one value that we compute with;
any other value is refused with its reason. Fields that only concern serving or training set-ups are left alone.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from r1mega.config import ModelConfig, UserError
from r1mega.model.hf.deepseek import deepseek_fields, read_deepseek, rope_interleave
from r1mega.model.hf.dense import dense_fields, read_dense
from r1mega.model.hf.fields import Fields

CONFIG_FILE = "config.json"
KINDS = {"deepseek_v3": "DeepSeek-V3", "qwen2": "Qwen2", "llama": "Llama"}  # model_type -> its name in messages


@dataclass(frozen=True)
class SourceConfig:
    """What config.json says."""

    model: ModelConfig
    rope_interleave: bool
    """Of DeepSeek-V3: whether neighbouring rows of q_b and kv_b make a rotated pair, as in the published weights (and
    in Megatron); otherwise row i goes with row i + rope/2."""


def read_hf_config(hf_dir: Path) -> SourceConfig:
    """Read `hf_dir`/config.json. Raises UserError naming file, key, value and what is legal."""
    file = hf_dir / CONFIG_FILE
    try:
        values = json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(f"{file}: no such file; give a folder in Hugging Face's layout of DeepSeek-V3, Qwen2 or Llama "
                        "(config.json, *.safetensors)") from None
    except (OSError, ValueError) as error:
        raise UserError(f"{file}: not readable as JSON ({error})") from None
    if not isinstance(values, dict):
        raise UserError(f"{file}: holds {type(values).__name__}, not a JSON object")
    architecture = values.get("model_type")
    if not isinstance(architecture, str) or architecture not in KINDS:
        raise UserError(f"{file}: model_type={architecture!r}; only {', '.join(map(repr, KINDS))} can be imported")
    fields = Fields(file, values, KINDS[architecture])
    if architecture == "deepseek_v3":
        return SourceConfig(read_deepseek(fields), rope_interleave(fields))
    return SourceConfig(read_dense(fields, architecture), rope_interleave=False)


def hf_config(model: ModelConfig, dtype: str) -> dict[str, Any]:
    """The fields of config.json for `model`, with weights of `dtype` ("bfloat16" or "float32").

    Raises UserError, naming the key, where no config.json means this model.
    """
    fields = dense_fields(model) if model.is_dense else deepseek_fields(model)
    return fields | {"torch_dtype": dtype}

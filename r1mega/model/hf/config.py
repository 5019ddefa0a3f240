"""config.json of a Hugging Face DeepSeek-V3 folder, and our ModelConfig. Torch-free.

Fields that change what the model computes are either carried over or must have the one value that we compute with;
any other value is refused with its reason. Fields that only concern serving or training set-ups are left alone.
"""

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from r1mega.config import ModelConfig, UserError
from r1mega.config.error import Mistake
from r1mega.config.model import Yarn

CONFIG_FILE = "config.json"

RENAMED = {  # ours -> theirs, where value and meaning are the same
    "vocab_size": "vocab_size",
    "hidden_size": "hidden_size",
    "num_layers": "num_hidden_layers",
    "num_dense_layers": "first_k_dense_replace",
    "ffn_hidden_size": "intermediate_size",
    "num_attention_heads": "num_attention_heads",
    "q_lora_rank": "q_lora_rank",
    "kv_lora_rank": "kv_lora_rank",
    "qk_nope_head_dim": "qk_nope_head_dim",
    "qk_rope_head_dim": "qk_rope_head_dim",
    "v_head_dim": "v_head_dim",
    "num_experts": "n_routed_experts",
    "num_shared_experts": "n_shared_experts",
    "moe_ffn_hidden_size": "moe_intermediate_size",
    "num_experts_per_token": "num_experts_per_tok",
    "num_expert_groups": "n_group",
    "num_groups_per_token": "topk_group",
    "routed_scaling_factor": "routed_scaling_factor",
    "norm_eps": "rms_norm_eps",
    "max_context": "max_position_embeddings",
}
OPTIONAL = {"init_std": "initializer_range", "num_mtp_layers": "num_nextn_predict_layers"}

YARN_RENAMED = {
    "factor": "factor",
    "original_context": "original_max_position_embeddings",
    "beta_fast": "beta_fast",
    "beta_slow": "beta_slow",
}

MUST_BE: dict[str, tuple[Any, str]] = {  # theirs -> the only value we compute with (also taken when absent), and why
    "norm_topk_prob": (True, "Megatron always normalises the scores of the chosen experts"),
    "scoring_func": ("sigmoid", "DeepSeek-V3 scores its experts by sigmoid"),
    "topk_method": ("noaux_tc", "experts are chosen by group, with a selection bias"),
    "hidden_act": ("silu", "the FFNs are built with SiLU"),
    "tie_word_embeddings": (False, "the head has weights of its own"),
    "attention_bias": (False, "the projections of the attention have no bias"),
    "attention_dropout": (0, "there is no dropout"),
    "moe_layer_freq": (1, "after the first dense layers every layer has experts"),
    "rms_norm_eps": (1e-6, "DeepSeek's and transformers' norms of the latents use 1e-6 whatever this says"),
}


@dataclass(frozen=True)
class SourceConfig:
    """What config.json says."""

    model: ModelConfig
    rope_interleave: bool
    """Whether neighbouring rows of q_b and kv_a make a rotated pair, as in the published weights (and in Megatron);
    otherwise row i goes with row i + rope/2."""


def read_hf_config(hf_dir: Path) -> SourceConfig:
    """Read `hf_dir`/config.json. Raises UserError naming file, key, value and what is legal."""
    file = hf_dir / CONFIG_FILE
    try:
        fields = json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(f"{file}: no such file; give a folder in Hugging Face's DeepSeek-V3 layout (config.json, "
                        "*.safetensors)") from None
    except (OSError, ValueError) as error:
        raise UserError(f"{file}: not readable as JSON ({error})") from None
    if not isinstance(fields, dict):
        raise UserError(f"{file}: holds {type(fields).__name__}, not a JSON object")
    if fields.get("model_type") != "deepseek_v3":
        raise UserError(f"{file}: model_type={fields.get('model_type')!r}; only 'deepseek_v3' can be imported")
    _check_fixed(file, fields)
    ours = {name: _required(file, fields, theirs) for name, theirs in RENAMED.items()}
    ours |= {name: fields[theirs] for name, theirs in OPTIONAL.items() if theirs in fields}
    ours.setdefault("num_mtp_layers", 0)
    rope = _rope(file, fields)
    ours["rope_theta"] = rope.get("rope_theta", fields.get("rope_theta", 10_000.0))
    ours["yarn"] = _yarn(file, rope)
    try:
        model = ModelConfig(**ours)
    except ValidationError as error:
        raise UserError(_explain(file, error, RENAMED | OPTIONAL)) from None
    interleave = fields.get("rope_interleave", True)
    return SourceConfig(model, rope_interleave=interleave is None or bool(interleave))


def hf_config(model: ModelConfig, dtype: str) -> dict[str, Any]:
    """The fields of config.json for `model`, with weights of `dtype` ("bfloat16" or "float32").

    Raises UserError, naming the key, where no config.json means this model.
    """
    _check_expressible(model)
    fields: dict[str, Any] = {"architectures": ["DeepseekV3ForCausalLM"], "model_type": "deepseek_v3"}
    fields |= {theirs: getattr(model, ours) for ours, theirs in (RENAMED | OPTIONAL).items()}
    fields |= {theirs: value for theirs, (value, _) in MUST_BE.items()}
    fields["num_key_value_heads"] = model.num_attention_heads
    fields["rope_interleave"] = True
    fields["rope_theta"] = model.rope_theta
    fields["rope_scaling"] = None
    if model.yarn is not None:
        # mscale_all_dim = 0 stands for both left out: transformers' formula then equals ours with mscale = 1
        mscales = {"mscale": model.yarn.mscale, "mscale_all_dim": model.yarn.mscale_all_dim}
        fields["rope_scaling"] = {
            "type": "yarn",
            **{theirs: getattr(model.yarn, ours) for ours, theirs in YARN_RENAMED.items()},
            **(mscales if model.yarn.mscale_all_dim else {}),
        }
    fields["torch_dtype"] = dtype
    return fields


def _check_expressible(model: ModelConfig) -> None:
    only, reason = MUST_BE["rms_norm_eps"]
    if model.norm_eps != only:
        raise UserError(f"norm_eps={model.norm_eps!r}; only {only!r} can be written as config.json: {reason}")
    if model.yarn is None:
        return
    mscale, all_dim = model.yarn.mscale, model.yarn.mscale_all_dim
    if not mscale or (not all_dim and mscale != 1):
        raise UserError(f"yarn.mscale={mscale!r} with yarn.mscale_all_dim={all_dim!r}; config.json can say both (not "
                        "0), or mscale=1.0 with mscale_all_dim=0.0: DeepSeek's code and transformers disagree about "
                        "one alone")


def _required(file: Path, fields: dict[str, Any], key: str) -> Any:
    if fields.get(key) is None:
        found = "null" if key in fields else "missing"
        raise UserError(f"{file}: {key} is {found}; a DeepSeek-V3 configuration needs it")
    return fields[key]


def _check_fixed(file: Path, fields: dict[str, Any]) -> None:
    for key, (value, reason) in MUST_BE.items():
        if fields.get(key) is not None and fields[key] != value:
            raise UserError(f"{file}: {key}={fields[key]!r}; only {value!r} is supported: {reason}")
    heads, kv_heads = fields.get("num_attention_heads"), fields.get("num_key_value_heads")
    if kv_heads is not None and kv_heads != heads:
        raise UserError(f"{file}: num_key_value_heads={kv_heads!r}; must be num_attention_heads={heads!r}, since every "
                        "head has keys of its own in multi-head latent attention")


def _rope(file: Path, fields: dict[str, Any]) -> dict[str, Any]:
    """The RoPE fields: `rope_parameters` as transformers 5 writes them, or `rope_scaling` as published."""
    key = "rope_parameters" if fields.get("rope_parameters") is not None else "rope_scaling"
    rope = fields.get(key)
    if rope is None:
        return {}
    if not isinstance(rope, dict):
        raise UserError(f"{file}: {key}={rope!r}; must be an object or null")
    return rope


def _yarn(file: Path, rope: dict[str, Any]) -> dict[str, Any] | None:
    kind = rope.get("rope_type", rope.get("type", "default"))
    if rope.get("partial_rotary_factor", 1.0) != 1.0:
        raise UserError(f"{file}: partial_rotary_factor={rope['partial_rotary_factor']!r}; only 1.0 is supported: "
                        "all of qk_rope_head_dim is rotated")
    if kind == "default":
        return None
    if kind != "yarn":
        raise UserError(f"{file}: rope type {kind!r}; legal: 'default', 'yarn'")
    for key, value in (("attention_factor", None), ("truncate", True)):
        if rope.get(key, value) not in (None, value):
            raise UserError(f"{file}: {key}={rope[key]!r} under rope_scaling is not supported; leave it out")
    yarn = {ours: rope[theirs] for ours, theirs in YARN_RENAMED.items() if rope.get(theirs) is not None}
    for ours in ("factor", "original_context"):
        if ours not in yarn:
            raise UserError(f"{file}: {YARN_RENAMED[ours]} is missing under rope_scaling; YaRN needs it")
    mscale, all_dim = rope.get("mscale") or 0.0, rope.get("mscale_all_dim") or 0.0
    if bool(mscale) != bool(all_dim):
        raise UserError(f"{file}: mscale={mscale!r} with mscale_all_dim={all_dim!r} under rope_scaling; give both or "
                        "neither: DeepSeek's code and transformers disagree about one alone")
    yarn |= {"mscale": mscale or 1.0, "mscale_all_dim": all_dim}
    try:
        Yarn(**yarn)
    except ValidationError as error:
        raise UserError(_explain(file, error, YARN_RENAMED)) from None
    return yarn


def _explain(file: Path, error: ValidationError, renamed: dict[str, str]) -> str:
    """The first complaint, in the file's own words."""
    first = error.errors()[0]
    mistake = first.get("ctx", {}).get("error")
    if isinstance(mistake, Mistake):  # about how fields fit together
        ours, text, value = mistake.key, mistake.text, first["input"].get(mistake.key)
    else:
        ours, text, value = str(first["loc"][0]), first["msg"][0].lower() + first["msg"][1:], first["input"]
    text = re.sub(r"\w+", lambda word: renamed.get(word[0], word[0]), text)
    return f"{file}: {renamed.get(ours, ours)}={value!r}: {text}"

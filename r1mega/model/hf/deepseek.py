"""config.json of DeepSeek-V3, and our ModelConfig. Torch-free."""

from typing import Any

from r1mega.config import ModelConfig, UserError
from r1mega.config.model import Yarn
from r1mega.model.hf.fields import Fields

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


def read_deepseek(fields: Fields) -> ModelConfig:
    """Raises UserError naming file, key, value and what is legal."""
    fields.check_fixed(MUST_BE)
    _check_heads(fields)
    ours = fields.renamed(RENAMED, OPTIONAL)
    ours.setdefault("num_mtp_layers", 0)
    rope = fields.rope()
    ours["rope_theta"] = fields.rope_theta(10_000.0)
    ours["yarn"] = _yarn(fields, rope)
    return fields.build(ModelConfig, ours, RENAMED | OPTIONAL)


def rope_interleave(fields: Fields) -> bool:
    """Whether neighbouring rows of q_b and kv_b make a rotated pair."""
    interleave = fields.values.get("rope_interleave", True)
    return interleave is None or bool(interleave)


def deepseek_fields(model: ModelConfig) -> dict[str, Any]:
    """config.json for `model`, but for the dtype. Raises UserError, naming the key, where none means this model."""
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


def _check_heads(fields: Fields) -> None:
    heads, kv_heads = fields.values.get("num_attention_heads"), fields.values.get("num_key_value_heads")
    if kv_heads is not None and kv_heads != heads:
        fields.refuse("num_key_value_heads", f"must be num_attention_heads={heads!r}, since every head has keys of its "
                                             "own in multi-head latent attention")


def _yarn(fields: Fields, rope: dict[str, Any]) -> dict[str, Any] | None:
    file, kind = fields.file, fields.rope_type(rope)
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
    fields.build(Yarn, yarn, YARN_RENAMED)
    return yarn

"""config.json of Qwen2 (Qwen2.5 too) and Llama, and our ModelConfig. Torch-free."""

from typing import Any

from r1mega.config import ModelConfig, UserError
from r1mega.config.model import Llama3Rope
from r1mega.model.hf.fields import Fields

RENAMED = {  # ours -> theirs, where value and meaning are the same
    "vocab_size": "vocab_size",
    "hidden_size": "hidden_size",
    "num_layers": "num_hidden_layers",
    "ffn_hidden_size": "intermediate_size",
    "num_attention_heads": "num_attention_heads",
    "norm_eps": "rms_norm_eps",
    "max_context": "max_position_embeddings",
}
OPTIONAL = {"init_std": "initializer_range", "tied_embeddings": "tie_word_embeddings"}
HEADS = {"num_key_value_heads": "num_key_value_heads", "head_dim": "head_dim"}

LLAMA3_RENAMED = {
    "factor": "factor",
    "original_context": "original_max_position_embeddings",
    "low_freq_factor": "low_freq_factor",
    "high_freq_factor": "high_freq_factor",
}

MUST_BE: dict[str, tuple[Any, str]] = {  # theirs -> the only value we compute with (also taken when absent), and why
    "hidden_act": ("silu", "the FFNs are built with SiLU"),
    "attention_dropout": (0, "there is no dropout"),
}
OF_ONE_KIND: dict[str, dict[str, tuple[Any, str]]] = {
    "qwen2": {"use_sliding_window": (False, "every token attends to all before it"),
              "use_mrope": (False, "positions have one dimension")},
    "llama": {"attention_bias": (False, "the projections of Llama's attention are built without bias"),
              "mlp_bias": (False, "the FFNs have no bias"),
              "pretraining_tp": (1, "the projections are computed whole")},
}


def read_dense(fields: Fields, architecture: str) -> ModelConfig:
    """Raises UserError naming file, key, value and what is legal."""
    fields.check_fixed(MUST_BE | OF_ONE_KIND[architecture])
    ours = fields.renamed(RENAMED, OPTIONAL)
    heads = fields.required("num_attention_heads")
    ours["num_key_value_heads"] = fields.values.get("num_key_value_heads") or heads
    ours["head_dim"] = fields.values.get("head_dim") or _equal_share(fields, heads)
    ours["rope_theta"] = fields.rope_theta(10_000.0)
    if (llama3 := _llama3(fields)) is not None:
        ours["llama3_rope"] = llama3
    return fields.build(ModelConfig, ours | {"architecture": architecture}, RENAMED | OPTIONAL | HEADS)


def dense_fields(model: ModelConfig) -> dict[str, Any]:
    """config.json for `model`, but for the dtype."""
    name = {"qwen2": "Qwen2ForCausalLM", "llama": "LlamaForCausalLM"}[model.architecture]
    fields: dict[str, Any] = {"architectures": [name], "model_type": model.architecture}
    fields |= {theirs: getattr(model, ours) for ours, theirs in (RENAMED | OPTIONAL | HEADS).items()}
    fields |= {theirs: value for theirs, (value, _) in (MUST_BE | OF_ONE_KIND[model.architecture]).items()}
    fields.pop("use_mrope", None)  # only read; neither transformers nor the published files write it for text
    fields["rope_theta"] = model.rope_theta
    fields["rope_scaling"] = None
    if model.llama3_rope is not None:
        fields["rope_scaling"] = {"rope_type": "llama3", **{
            theirs: getattr(model.llama3_rope, ours) for ours, theirs in LLAMA3_RENAMED.items()}}
    return fields


def _equal_share(fields: Fields, heads: Any) -> int:
    hidden = fields.required("hidden_size")
    if not isinstance(heads, int) or not isinstance(hidden, int) or heads < 1 or hidden % heads:
        fields.refuse("num_attention_heads", f"does not divide hidden_size={hidden!r}, and there is no head_dim")
    return hidden // heads


def _llama3(fields: Fields) -> dict[str, Any] | None:
    rope = fields.rope()
    kind = fields.rope_type(rope)
    if kind == "default":
        return None
    if kind != "llama3":
        raise UserError(f"{fields.file}: rope type {kind!r}; legal: 'default', 'llama3'")
    for theirs in LLAMA3_RENAMED.values():
        if rope.get(theirs) is None:
            raise UserError(f"{fields.file}: {theirs} is missing under rope_scaling; rope type 'llama3' needs it")
    llama3 = {ours: rope[theirs] for ours, theirs in LLAMA3_RENAMED.items()}
    fields.build(Llama3Rope, llama3, LLAMA3_RENAMED)
    return llama3

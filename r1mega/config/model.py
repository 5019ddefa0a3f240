"""The shape of the policy: a DeepSeek-V3-like mixture of experts, or a dense student (Qwen2, Llama)."""

from typing import Any, Literal

from pydantic import Field, SerializerFunctionWrapHandler, model_serializer, model_validator

from r1mega.config.error import Mistake
from r1mega.config.section import Section

VOCAB_MULTIPLE = 128  # embedding rows are padded to this, whatever the layout, so that one checkpoint fits all

# Keys that only one kind of architecture has; those of the first tuple of each have no default.
_V3_NEEDS = ("num_dense_layers", "q_lora_rank", "kv_lora_rank", "qk_nope_head_dim", "qk_rope_head_dim", "v_head_dim",
             "num_experts", "moe_ffn_hidden_size", "num_experts_per_token")
_V3_ONLY = (*_V3_NEEDS, "num_shared_experts", "num_expert_groups", "num_groups_per_token", "routed_scaling_factor",
            "num_mtp_layers", "yarn")
_DENSE_NEEDS = ("num_key_value_heads", "head_dim")
_DENSE_ONLY = (*_DENSE_NEEDS, "tied_embeddings", "llama3_rope")


class Yarn(Section):
    """YaRN context extension (arXiv 2309.00071) with DeepSeek's values as defaults."""

    factor: float = Field(40.0, ge=1.0)
    original_context: int = Field(4096, ge=1)
    beta_fast: float = Field(32.0, gt=0)
    beta_slow: float = Field(1.0, gt=0)
    mscale: float = 1.0
    mscale_all_dim: float = 1.0


class Llama3Rope(Section):
    """Llama 3.1's stretching of rotary wavelengths, `rope_type="llama3"` in transformers; its values as defaults."""

    factor: float = Field(8.0, ge=1.0)
    """Wavelengths above original_context / low_freq_factor become so many times as long."""
    original_context: int = Field(8192, ge=1)
    low_freq_factor: float = Field(1.0, gt=0)
    high_freq_factor: float = Field(4.0, gt=0)
    """Wavelengths below original_context / high_freq_factor stay; between the two, both are mixed."""

    @model_validator(mode="after")
    def _high_above_low(self) -> "Llama3Rope":
        if self.high_freq_factor <= self.low_freq_factor:
            raise Mistake("high_freq_factor", f"must be more than low_freq_factor={self.low_freq_factor}; Llama has "
                                              "4.0 and 1.0")
        return self


def _mtp_layers(given: dict[str, Any]) -> int:
    return 1 if given.get("architecture") == "deepseek_v3" else 0


class ModelConfig(Section):
    """Sizes of the policy. Names follow the DeepSeek-V3 report (arXiv 2412.19437, section 2)."""

    architecture: Literal["deepseek_v3", "qwen2", "llama"] = "deepseek_v3"
    """qwen2 (also Qwen2.5) and llama are dense, with grouped-query attention; in qwen2 queries, keys and values have
    biases."""
    vocab_size: int = Field(ge=8)
    """True vocabulary; embedding rows beyond it are padding."""
    hidden_size: int = Field(ge=8)
    num_layers: int = Field(ge=1)
    num_dense_layers: int | None = Field(None, ge=0)
    """How many of the first layers have a dense FFN instead of experts; deepseek_v3 only."""
    ffn_hidden_size: int = Field(ge=1)
    """Width of the dense FFN."""
    num_attention_heads: int = Field(ge=1)
    num_key_value_heads: int | None = Field(None, ge=1)
    """Each is shared by as many query heads; qwen2 and llama only."""
    head_dim: int | None = Field(None, ge=2)
    """Of queries, keys and values; qwen2 and llama only."""
    tied_embeddings: bool = False
    """Whether the head is the embedding; qwen2 and llama only."""
    q_lora_rank: int | None = Field(None, ge=1)
    kv_lora_rank: int | None = Field(None, ge=1)
    qk_nope_head_dim: int | None = Field(None, ge=1)
    qk_rope_head_dim: int | None = Field(None, ge=2)
    v_head_dim: int | None = Field(None, ge=1)
    num_experts: int | None = Field(None, ge=2)
    """Routed experts of each MoE layer; this and the rest about experts, latents, MTP and YaRN: deepseek_v3 only."""
    num_shared_experts: int = Field(1, ge=0)
    moe_ffn_hidden_size: int | None = Field(None, ge=1)
    num_experts_per_token: int | None = Field(None, ge=1)
    num_expert_groups: int = Field(1, ge=1)
    num_groups_per_token: int = Field(1, ge=1)
    """Groups a token may choose experts from; a group's score is the sum of its two best experts."""
    routed_scaling_factor: float = Field(2.5, gt=0)
    num_mtp_layers: int = Field(default_factory=_mtp_layers, ge=0, le=1)
    """1 by default."""
    rope_theta: float = Field(10_000.0, gt=0)
    yarn: Yarn | None = None
    llama3_rope: Llama3Rope | None = None
    """qwen2 and llama only."""
    norm_eps: float = Field(1e-6, gt=0)
    init_std: float = Field(0.006, gt=0)
    max_context: int = Field(4096, ge=1)
    """Longest sequence, prompt and response together."""

    @property
    def is_dense(self) -> bool:
        """Whether it is a plain transformer: no experts, no latents, no MTP."""
        return self.architecture != "deepseek_v3"

    @property
    def qkv_bias(self) -> bool:
        return self.architecture == "qwen2"

    @property
    def padded_vocab_size(self) -> int:
        """Rows of the embedding and of the head."""
        return -(-self.vocab_size // VOCAB_MULTIPLE) * VOCAB_MULTIPLE

    @property
    def num_moe_layers(self) -> int:
        return 0 if self.is_dense else self.num_layers - self.num_dense_layers

    @property
    def cached_per_token(self) -> int:
        """Numbers that a layer keeps of a token while sampling: MLA's latents, or keys and values."""
        if self.is_dense:
            return 2 * self.num_key_value_heads * self.head_dim
        return self.kv_lora_rank + self.qk_rope_head_dim

    @model_validator(mode="after")
    def _keys_are_its_own(self) -> "ModelConfig":
        needed, foreign = (_DENSE_NEEDS, _V3_ONLY) if self.is_dense else (_V3_NEEDS, _DENSE_ONLY)
        others = '"deepseek_v3"' if self.is_dense else '"qwen2" or "llama"'
        for key in foreign:
            if key in self.model_fields_set:
                raise Mistake(key, f'has no meaning for model.architecture="{self.architecture}", only for {others}; '
                                   "take it out")
        for key in needed:
            if getattr(self, key) is None:
                raise Mistake(key, f'is missing, and model.architecture="{self.architecture}" needs it; add it under '
                                   "[model]")
        return self

    @model_validator(mode="after")
    def _sizes_fit(self) -> "ModelConfig":
        if self.is_dense:
            self._check_heads()
            return self
        if self.num_dense_layers > self.num_layers:
            raise Mistake("num_dense_layers", f"is more than num_layers={self.num_layers}; use 0 to {self.num_layers}")
        if self.qk_rope_head_dim % 2:
            raise Mistake("qk_rope_head_dim", "must be even, since RoPE turns pairs; use e.g. "
                                              f"{self.qk_rope_head_dim + 1}")
        if self.num_experts % self.num_expert_groups:
            raise Mistake("num_expert_groups", f"does not divide num_experts={self.num_experts}, and every group holds "
                                               f"the same number; use {self._group_counts()}")
        group = self.num_experts // self.num_expert_groups
        if self.num_expert_groups > 1 and group < 2:
            raise Mistake("num_expert_groups", "leaves one expert a group, and a group's score sums its two best; use "
                                               f"{self._group_counts()}")
        if self.num_groups_per_token > self.num_expert_groups:
            raise Mistake("num_groups_per_token", f"is more than num_expert_groups={self.num_expert_groups}; use 1 to "
                                                  f"{self.num_expert_groups}")
        reach = self.num_groups_per_token * group
        if self.num_experts_per_token > reach:
            raise Mistake("num_experts_per_token", f"is more than the {reach} experts of num_groups_per_token="
                                                   f"{self.num_groups_per_token} groups; use 1 to {reach}")
        return self

    def _check_heads(self) -> None:
        if self.head_dim % 2:
            raise Mistake("head_dim", f"must be even, since RoPE turns pairs; use e.g. {self.head_dim + 1}")
        if self.num_attention_heads % self.num_key_value_heads:
            fits = [n for n in range(1, self.num_attention_heads + 1) if self.num_attention_heads % n == 0]
            raise Mistake("num_key_value_heads", f"does not divide num_attention_heads={self.num_attention_heads}, and "
                                                 "each is shared by the same number; use one of "
                                                 + ", ".join(map(str, fits[:12])))

    def _group_counts(self) -> str:
        """The legal numbers of groups."""
        counts = [n for n in range(1, self.num_experts // 2 + 1) if self.num_experts % n == 0]
        return "one of " + ", ".join(map(str, counts[:12]))

    @model_serializer(mode="wrap")
    def _without_foreign_keys(self, write: SerializerFunctionWrapHandler) -> dict[str, Any]:
        foreign = _V3_ONLY if self.is_dense else _DENSE_ONLY
        return {key: value for key, value in write(self).items() if key not in foreign}

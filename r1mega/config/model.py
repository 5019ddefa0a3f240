"""The shape of the policy: a DeepSeek-V3-like mixture of experts."""

from typing import Literal

from pydantic import Field, model_validator

from r1mega.config.error import Mistake
from r1mega.config.section import Section

VOCAB_MULTIPLE = 128  # embedding rows are padded to this, whatever the layout, so that one checkpoint fits all


class Yarn(Section):
    """YaRN context extension (arXiv 2309.00071) with DeepSeek's values as defaults."""

    factor: float = Field(40.0, ge=1.0)
    original_context: int = Field(4096, ge=1)
    beta_fast: float = Field(32.0, gt=0)
    beta_slow: float = Field(1.0, gt=0)
    mscale: float = 1.0
    mscale_all_dim: float = 1.0


class ModelConfig(Section):
    """Sizes of the policy. Names follow the DeepSeek-V3 report (arXiv 2412.19437, section 2)."""

    architecture: Literal["deepseek_v3"] = "deepseek_v3"
    vocab_size: int = Field(ge=8)
    """True vocabulary; embedding rows beyond it are padding."""
    hidden_size: int = Field(ge=8)
    num_layers: int = Field(ge=1)
    num_dense_layers: int = Field(ge=0)
    """How many of the first layers have a dense FFN instead of experts."""
    ffn_hidden_size: int = Field(ge=1)
    """Width of the dense FFN."""
    num_attention_heads: int = Field(ge=1)
    q_lora_rank: int = Field(ge=1)
    kv_lora_rank: int = Field(ge=1)
    qk_nope_head_dim: int = Field(ge=1)
    qk_rope_head_dim: int = Field(ge=2)
    v_head_dim: int = Field(ge=1)
    num_experts: int = Field(ge=2)
    """Routed experts of each MoE layer."""
    num_shared_experts: int = Field(1, ge=0)
    moe_ffn_hidden_size: int = Field(ge=1)
    num_experts_per_token: int = Field(ge=1)
    num_expert_groups: int = Field(1, ge=1)
    num_groups_per_token: int = Field(1, ge=1)
    """Groups a token may choose experts from; a group's score is the sum of its two best experts."""
    routed_scaling_factor: float = Field(2.5, gt=0)
    num_mtp_layers: int = Field(1, ge=0, le=1)
    rope_theta: float = Field(10_000.0, gt=0)
    yarn: Yarn | None = None
    norm_eps: float = Field(1e-6, gt=0)
    init_std: float = Field(0.006, gt=0)
    max_context: int = Field(4096, ge=1)
    """Longest sequence, prompt and response together."""

    @property
    def padded_vocab_size(self) -> int:
        """Rows of the embedding and of the head."""
        return -(-self.vocab_size // VOCAB_MULTIPLE) * VOCAB_MULTIPLE

    @property
    def num_moe_layers(self) -> int:
        return self.num_layers - self.num_dense_layers

    @model_validator(mode="after")
    def _sizes_fit(self) -> "ModelConfig":
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

    def _group_counts(self) -> str:
        """The legal numbers of groups."""
        counts = [n for n in range(1, self.num_experts // 2 + 1) if self.num_experts % n == 0]
        return "one of " + ", ".join(map(str, counts[:12]))

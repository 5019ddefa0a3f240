"""Core attention and RMSNorm in plain PyTorch: what Transformer Engine brings elsewhere."""

from typing import Any

import torch
import torch.nn.functional as F
from megatron.core.transformer.module import MegatronModule
from megatron.core.transformer.transformer_config import TransformerConfig

from r1mega.model.pack import Pack


class CausalAttention(MegatronModule):
    """Causal attention over packed sequences by torch's scaled dot-product attention.

    Segments of like length go as one padded batch, others one by one: a token sees only its own sequence either way.
    Megatron's MLA pads the values to the width of the keys and trims the result itself.
    """

    def __init__(self, config: TransformerConfig, *args: Any, softmax_scale: float | None = None, **kwargs: Any):
        super().__init__(config)
        self.softmax_scale = softmax_scale

    def forward(
        self, query_THD: torch.Tensor, key_THD: torch.Tensor, value_THD: torch.Tensor,
        attention_mask: torch.Tensor | None, packed_seq_params: Pack | None = None, **kwargs: Any,
    ) -> torch.Tensor:
        """T packed tokens, H heads of this rank (of keys and values also a divisor of it), D key width; returns
        [T, H, D]."""
        if packed_seq_params is None:
            raise ValueError("the policy takes packed sequences only; give it a Pack")
        qkv = (query_THD, key_THD, value_THD)
        if packed_seq_params.rows is not None:
            rows_SL = packed_seq_params.rows
            # Padding stands at the end of its row, where a causal mask hides it from every real token.
            out_SHLD = self._attend(*(x[rows_SL].transpose(1, 2) for x in qkv))
            return out_SHLD.transpose(1, 2).flatten(0, 1)[packed_seq_params.slots]
        edges = packed_seq_params.cu_seqlens_q.tolist()
        pieces = [self._attend(*(x[begin:end].transpose(0, 1)[None] for x in qkv))[0].transpose(0, 1)
                  for begin, end in zip(edges[:-1], edges[1:], strict=True)]
        return torch.cat(pieces)

    def _attend(self, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
        shared = q.shape[1] != k.shape[1]  # a key head by several query heads
        return F.scaled_dot_product_attention(
            q, k, v, is_causal=True, scale=self.softmax_scale, enable_gqa=shared)


class RMSNorm(torch.nn.Module):
    """RMSNorm whose weight carries the mark by which Megatron sums its gradient under sequence parallelism."""

    def __init__(self, config: TransformerConfig, hidden_size: int, eps: float = 1e-6, **kwargs: Any):
        super().__init__()
        self.eps = eps
        self.weight = torch.nn.Parameter(torch.ones(hidden_size, dtype=config.params_dtype))
        self.weight.sequence_parallel = config.sequence_parallel  # type: ignore[attr-defined]

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """x: [..., hidden_size]; statistics in fp32, the result in x's dtype (as DeepSeek's RMSNorm)."""
        normed = F.rms_norm(x.float(), (x.shape[-1],), None, self.eps)
        return self.weight * normed.to(x.dtype)

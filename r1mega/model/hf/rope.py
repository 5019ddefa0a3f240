"""The order of rotated rows, of which the files know two and Megatron one."""

import torch

from r1mega.config import ModelConfig
from r1mega.model.weight import Weight


def interleaving(weight: Weight, model: ModelConfig) -> torch.Tensor | None:
    """For a weight with rotated rows, the order [rows] that turns halves into neighbours; None for any other.

    Megatron rotates rows 2i and 2i+1 together, like the published weights. A folder with rope_interleave=false has
    such a pair at i and i + rope/2.
    """
    rope = model.qk_rope_head_dim
    neighbours = torch.arange(rope).view(2, rope // 2).T.reshape(rope)  # 0, rope/2, 1, rope/2 + 1, ...
    if weight.megatron.endswith("linear_kv_down_proj.weight"):
        return torch.cat([torch.arange(model.kv_lora_rank), model.kv_lora_rank + neighbours])
    if weight.megatron.endswith("linear_q_up_proj.weight"):
        one_head = torch.cat([torch.arange(model.qk_nope_head_dim), model.qk_nope_head_dim + neighbours])
        heads = torch.arange(model.num_attention_heads)[:, None] * len(one_head)
        return (heads + one_head).reshape(-1)
    return None

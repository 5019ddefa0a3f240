"""Multi-head latent attention: Megatron's training path with its tensor-parallel gradient mended, and
decoding on a cache of latents.

Source: DeepSeek-V2 (arXiv 2405.04434), section 2.1.2 and appendix C (absorbed form).
"""

# Shapes: N rows (tokens of different sequences), P prompt positions, L cached positions, H hidden size, A
# attention heads on this rank, D = kv_lora + rope sizes of one cached token, R = kv_lora, F = rope size / 2.

from dataclasses import dataclass

import torch
import torch.distributed as dist
import torch.nn.functional as F
from megatron.core.tensor_parallel.mappings import (
    copy_to_tensor_model_parallel_region,
    gather_from_tensor_model_parallel_region,
    scatter_to_sequence_parallel_region,
)
from megatron.core.transformer.multi_latent_attention import MLASelfAttention
from torch import Tensor


@dataclass(frozen=True, slots=True)
class DecodeStep:
    """What all layers share while every row takes one token."""

    cells: Tensor  # [N] int64: row * (cache length) + position, where the new latents go
    length: int  # L: the longest row, the new token included
    cos: Tensor  # [N, F]
    sin: Tensor  # [N, F]
    mask: Tensor  # [N, 1, L] additive: 0 up to a row's position, -inf after it


class LatentAttention(MLASelfAttention):
    """MLA that trains under tensor parallelism with the right gradients, and decodes on cached latents.

    `forward` is Megatron's and is what training uses. `prefill` and `decode` compute the same function
    without gradients, on tokens laid out as [rows, features], replicated over the tensor-parallel group. They
    read the parameters directly, so sequence parallelism may be on or off.
    """

    def _qkv_down_projection(self, hidden_states: Tensor) -> tuple[Tensor, Tensor]:
        """Megatron's, with the key/value part at full width.

        megatron-core 0.19 gathers a column-parallel key/value projection in the caller, and the gather's
        backward only slices: the sum over ranks of the gradient of the shared rope key is lost. Handing over
        a full-width tensor makes the caller take its other branch. With sequence parallelism the backward of
        the scatter below gathers and the caller's own gather reduce-scatters; without it the copy region
        sums.
        """
        query, key_value = super()._qkv_down_projection(hidden_states)
        width = self.config.kv_lora_rank + self.config.qk_pos_emb_head_dim
        if key_value.size(-1) == width:
            return query, key_value
        key_value = gather_from_tensor_model_parallel_region(key_value)
        if self.config.sequence_parallel:
            return query, scatter_to_sequence_parallel_region(key_value)
        latent, rope_key = key_value.split([self.config.kv_lora_rank, self.config.qk_pos_emb_head_dim], -1)
        return query, torch.cat([latent, copy_to_tensor_model_parallel_region(rope_key)], -1)

    @property
    def cache_width(self) -> int:
        """D: numbers kept of one token."""
        return self.config.kv_lora_rank + self.config.qk_pos_emb_head_dim

    def rope_tables(self, length: int, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
        """cos and sin [length, F] of positions 0.. length - 1, YaRN's magnitude included."""
        # packed_seq: all positions, also under context parallelism.
        frequencies = self.rotary_pos_emb(length, packed_seq=True)
        frequencies, magnitude = frequencies if isinstance(frequencies, tuple) else (frequencies, 1.0)
        angles = frequencies[:, 0, 0, : self.config.qk_pos_emb_head_dim // 2]
        return (angles.cos() * magnitude).to(dtype), (angles.sin() * magnitude).to(dtype)

    def prefill(self, hidden: Tensor, cos: Tensor, sin: Tensor) -> tuple[Tensor, Tensor]:
        """Causal attention over whole prompts, padded at their ends.

        hidden [N, P, H], cos and sin [P, F] -> output [N, P, H] and the latents to cache [N, P, D].
        """
        rows, length, _ = hidden.shape
        query, latent, rope_key = self._project(hidden, cos, sin)
        up = F.linear(latent, self.linear_kv_up_proj.weight)
        key, value = up.view(rows, length, -1, self.config.qk_head_dim + self.config.v_head_dim).split(
            [self.config.qk_head_dim, self.config.v_head_dim], -1)
        key = torch.cat([key, rope_key[:, :, None].expand(-1, -1, key.shape[2], -1)], -1)
        mixed = F.scaled_dot_product_attention(
            query.transpose(1, 2), key.transpose(1, 2), value.transpose(1, 2), is_causal=True,
            scale=self.softmax_scale)  # [N, A, P, v]
        output = self._output(mixed.transpose(1, 2).reshape(rows, length, -1))
        return output, torch.cat([latent, rope_key], -1)

    def decode(self, hidden: Tensor, cache: Tensor, step: DecodeStep) -> Tensor:
        """One new token a row: its latents are written to `cache`, then all positions up to it are attended
        to.

        hidden [N, H], cache [slots, capacity, D] (rows 0.. N - 1 are used) -> [N, H].
        """
        rows, rank = hidden.shape[0], self.config.kv_lora_rank
        # [N, A, nope + rope], [N, R], [N, 2F]
        query, latent, rope_key = self._project(hidden, step.cos, step.sin)
        cache.view(-1, cache.shape[-1]).index_copy_(0, step.cells, torch.cat([latent, rope_key], -1))
        up = self.linear_kv_up_proj.weight.view(query.shape[1], -1, rank)  # [A, nope + v, R]
        nope, rope_query = query.split([self.config.qk_head_dim, self.config.qk_pos_emb_head_dim], -1)
        key_up, value_up = up.split([self.config.qk_head_dim, self.config.v_head_dim], 1)
        absorbed = torch.bmm(nope.transpose(0, 1), key_up).transpose(0, 1)  # [N, A, R]
        keys = cache[:rows, : step.length]  # [N, L, D]
        scores = torch.baddbmm(step.mask, torch.cat([absorbed, rope_query], -1), keys.transpose(1, 2),
                               alpha=self.softmax_scale)  # [N, A, L]
        mixed = torch.bmm(scores.softmax(-1), keys[:, :, :rank])  # [N, A, R]
        values = torch.bmm(mixed.transpose(0, 1), value_up.transpose(1, 2))  # [A, N, v]
        return self._output(values.transpose(0, 1).reshape(rows, -1))

    def _project(self, hidden: Tensor, cos: Tensor, sin: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """hidden [.., H] -> query [.., A, nope + rope], normalised latent [.., R], rope key [.., 2F]."""
        config = self.config
        query = F.linear(hidden, self.linear_q_down_proj.weight)
        key_value = F.linear(hidden, self.linear_kv_down_proj.weight)
        if key_value.shape[-1] != self.cache_width:
            query, key_value = self._gathered(query, key_value)
        latent, rope_key = key_value.split([config.kv_lora_rank, config.qk_pos_emb_head_dim], -1)
        query = F.linear(self.q_layernorm(query), self.linear_q_up_proj.weight)
        query = query.view(*hidden.shape[:-1], -1, config.qk_head_dim + config.qk_pos_emb_head_dim)
        nope, rope_query = query.split([config.qk_head_dim, config.qk_pos_emb_head_dim], -1)
        query = torch.cat([nope, _rotate(rope_query, cos[..., None, :], sin[..., None, :])], -1)
        return query, self.kv_layernorm(latent), _rotate(rope_key, cos, sin)

    def _gathered(self, query: Tensor, key_value: Tensor) -> tuple[Tensor, Tensor]:
        """Both down-projections at full width, in one all-gather over the tensor-parallel group."""
        group = self.pg_collection.tp
        mine = torch.cat([query, key_value], -1)
        parts = [torch.empty_like(mine) for _ in range(group.size())]
        dist.all_gather(parts, mine, group=group)
        width = query.shape[-1]
        return (torch.cat([part[..., :width] for part in parts], -1),
                torch.cat([part[..., width:] for part in parts], -1))

    def _output(self, mixed: Tensor) -> Tensor:
        """Heads of this rank [.., A * v] -> [.., H], summed over the tensor-parallel group."""
        output = F.linear(mixed, self.linear_proj.weight)
        if self.pg_collection.tp.size() > 1:
            dist.all_reduce(output, group=self.pg_collection.tp)
        return output


def _rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """RoPE on interleaved pairs [.., 2F], the result de-interleaved as Megatron and DeepSeek lay it out."""
    even, odd = x[..., 0::2], x[..., 1::2]
    return torch.cat([even * cos - odd * sin, odd * cos + even * sin], -1)

"""Grouped-query attention (arXiv 2305.13245) of the dense students: Megatron's training path, and decoding on a cache
of keys and values."""

# Shapes: N rows (tokens of different sequences), P prompt positions, L cached positions, H hidden size, G key/value
# heads on this rank, Q query heads of each, E head size, D = 2 x G x E numbers of one cached token, F = E / 2.

import itertools

import torch
import torch.distributed as dist
import torch.nn.functional as F
from megatron.core.transformer.attention import SelfAttention
from torch import Tensor

from r1mega.model.latent_attention import DecodeStep
from r1mega.model.rotary import rotate_halves


class GroupedAttention(SelfAttention):
    """Megatron's self-attention, with the same way to sample as LatentAttention.

    `forward` is Megatron's and is what training uses. `prefill` and `decode` compute the same function without
    gradients, on tokens laid out as [rows, features], replicated over the tensor-parallel group. They read the
    parameters directly, so sequence parallelism may be on or off.
    """

    @property
    def cache_width(self) -> int:
        """D: numbers that this rank keeps of one token."""
        return 2 * self.num_query_groups_per_partition * self.config.kv_channels

    def prefill(self, hidden: Tensor, cos: Tensor, sin: Tensor) -> tuple[Tensor, Tensor]:
        """Causal attention over whole prompts, padded at their ends.

        hidden [N, P, H], cos and sin [P, F] -> output [N, P, H] and keys and values to cache [N, P, D].
        """
        query, key, value = self._project(hidden, cos, sin)
        mixed = F.scaled_dot_product_attention(
            query.flatten(2, 3).transpose(1, 2), key.transpose(1, 2), value.transpose(1, 2), is_causal=True,
            enable_gqa=query.shape[3] > 1)  # [N, G * Q, P, E]
        output = self._output(mixed.transpose(1, 2).flatten(2))
        return output, torch.cat([key.flatten(2), value.flatten(2)], -1)

    def decode(self, hidden: Tensor, cache: Tensor, step: DecodeStep) -> Tensor:
        """One new token a row: its key and value are written to `cache`, then all positions up to it are attended to.

        hidden [N, H], cache [slots, capacity, D] (rows 0.. N - 1 are used) -> [N, H].
        """
        rows, size = len(hidden), self.config.kv_channels
        query, key, value = self._project(hidden, step.cos, step.sin)
        cache.view(-1, cache.shape[-1]).index_copy_(
            0, step.cells, torch.cat([key.flatten(1), value.flatten(1)], -1))
        # Key heads one by one: all in one product would copy the cache, whose rows hold them side by side.
        heads = cache[:rows, : step.length].unflatten(-1, (-1, size)).unbind(2)  # 2 * G of [N, L, E]: keys, then values
        mixed = []
        for group, (keys, values) in enumerate(zip(*itertools.batched(heads, len(heads) // 2), strict=True)):
            scores = torch.baddbmm(step.mask, query[:, group], keys.transpose(1, 2), alpha=size**-0.5)  # [N, Q, L]
            mixed.append(torch.bmm(scores.softmax(-1), values))  # [N, Q, E]
        return self._output(torch.cat(mixed, 1).flatten(1))

    def _project(self, hidden: Tensor, cos: Tensor, sin: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """hidden [.., H] -> query [.., G, Q, E], key and value [.., G, E]; query and key rotated."""
        size, groups = self.config.kv_channels, self.num_query_groups_per_partition
        rows = F.linear(hidden, self.linear_qkv.weight, self.linear_qkv.bias)
        rows = rows.view(*hidden.shape[:-1], groups, -1, size)  # of each group: queries, one key, one value
        query, key, value = rows[..., :-2, :], rows[..., -2, :], rows[..., -1, :]
        cos, sin = cos[..., None, :], sin[..., None, :]
        return rotate_halves(query, cos[..., None, :], sin[..., None, :]), rotate_halves(key, cos, sin), value

    def _output(self, mixed: Tensor) -> Tensor:
        """Heads of this rank [.., G * Q * E] -> [.., H], summed over the tensor-parallel group."""
        output = F.linear(mixed, self.linear_proj.weight)
        if self.pg_collection.tp.size() > 1:
            dist.all_reduce(output, group=self.pg_collection.tp)
        return output

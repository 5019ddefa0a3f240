"""The policy's forward pass while sampling: the training weights, a cache of latents (of keys and values in a dense
student), and nothing else.

Walks over the modules of Megatron's GPTModel itself. That leaves out the multi-token prediction layers, the
token exchange between experts, and the hooks that only training needs; the order of operations is the
model's.
"""

# Shapes: N rows, U prompts, P prompt positions, L cached positions, H hidden size, W vocabulary columns of
# this rank.

from collections.abc import Callable, Sequence

import torch
import torch.distributed as dist
import torch.nn.functional as F
from r1mega_kernels.gemm import project
from torch import Tensor, nn

from r1mega.config import ModelConfig
from r1mega.model.grouped_attention import GroupedAttention
from r1mega.model.latent_attention import DecodeStep, LatentAttention
from r1mega.parallel import Groups
from r1mega.rollout.experts import DispatchedExperts, build_ffn

Attention = LatentAttention | GroupedAttention
Attend = Callable[[int, Attention, Tensor], Tensor]


class _Layer:
    """One transformer layer, pre-norm with two residuals."""

    def __init__(self, layer: nn.Module, groups: Groups, local_experts: bool) -> None:
        self.attention: Attention = layer.self_attention
        self._attention_norm, self._ffn_norm = layer.input_layernorm, layer.pre_mlp_layernorm
        self._ffn = build_ffn(layer.mlp, groups, local_experts)
        self.dispatches = isinstance(self._ffn, DispatchedExperts)

    def __call__(self, hidden: Tensor, index: int, attend: Attend) -> Tensor:
        hidden = hidden + attend(index, self.attention, self._attention_norm(hidden))
        normed = self._ffn_norm(hidden)
        return hidden + self._ffn(normed.view(-1, normed.shape[-1])).view(hidden.shape)


class CachedForward:
    """One rank's share of the model with a cache of `slots` rows and `capacity` positions.

    `prefill` and `decode` return the logits [.., W] on the last pipeline stage and None on the others. All
    ranks of a replica call them with equal arguments. `in_step`: all replicas must make the same calls in the
    same order, since their tokens meet at experts.
    """

    def __init__(self, chunks: Sequence[nn.Module], groups: Groups, config: ModelConfig, *, slots: int,
                 capacity: int, local_experts: bool) -> None:
        self._chunks, self._groups = chunks, groups
        self._layers = [[_Layer(layer, groups, local_experts) for layer in chunk.decoder.layers]
                        for chunk in chunks]
        attentions = [layer.attention for layers in self._layers for layer in layers]
        self.num_slots = slots
        dispatched = any(layer.dispatches for layers in self._layers for layer in layers)
        # Ranks are dealt to a layer's experts in order, so those of one replica stay among themselves where they come
        # out even.
        meet = groups.tp.size() % (groups.ep.size() * groups.expt_tp.size()) != 0
        self.in_step = _anywhere(dispatched, groups) and meet
        parameter = next(chunks[0].parameters())
        self._like = parameter.new_empty(0, config.hidden_size)
        self._capacity = capacity
        self._caches = [parameter.new_zeros(slots, capacity, layer.cache_width) for layer in attentions]
        self._positions = torch.arange(capacity, device=parameter.device)
        self._row_starts = torch.arange(slots, device=parameter.device) * capacity
        # A rank that holds only the embedding or the head has no layers; its tables are never read.
        self._cos = self._sin = parameter.new_empty(capacity, 0)
        for chunk in chunks:
            if len(chunk.decoder.layers):
                self._cos, self._sin = chunk.rope_tables(capacity, parameter.dtype)

    def prefill(self, prompts: Tensor, lengths: Tensor, sources: Tensor, first_row: int) -> Tensor | None:
        """Run U prompts and keep what is to be cached in `len(sources)` rows from `first_row` on.

        prompts [U, P] int64, padded at their ends; lengths [U] int64; sources [n] int64: which prompt each
        row gets. Returns the logits [n, W] after each row's prompt.
        """
        prompts_u, length = prompts.shape
        rows = slice(first_row, first_row + len(sources))

        def attend(index: int, attention: Attention, hidden: Tensor) -> Tensor:
            output, latents = attention.prefill(hidden, self._cos[:length], self._sin[:length])
            self._caches[index][rows, :length] = latents.index_select(0, sources)
            return output

        def last(hidden: Tensor) -> Tensor:
            return hidden[torch.arange(prompts_u, device=hidden.device), lengths - 1]

        logits = self._run(prompts, attend, last)
        return None if logits is None else logits.index_select(0, sources)

    def decode(self, tokens: Tensor, positions: Tensor, length: int) -> Tensor | None:
        """One token in each of the rows 0.. N - 1.

        tokens [N] int64, positions [N] int64 (where the token goes), length: the largest position + 1. -> [N,
        W].
        """
        mask = torch.zeros(len(tokens), 1, length, dtype=self._like.dtype, device=tokens.device)
        mask.masked_fill_((self._positions[:length] > positions[:, None])[:, None], -torch.inf)
        step = DecodeStep(cells=self._row_starts[: len(tokens)] + positions, length=length,
                          cos=self._cos[positions], sin=self._sin[positions], mask=mask)

        def attend(index: int, attention: Attention, hidden: Tensor) -> Tensor:
            return attention.decode(hidden, self._caches[index], step)

        return self._run(tokens, attend, lambda hidden: hidden)

    def move_rows(self, sources: Tensor, targets: Tensor, length: int) -> None:
        """Copy the first `length` cached positions of rows `sources` [n] over those of rows `targets` [n]."""
        for cache in self._caches:
            cache[targets, :length] = cache[sources, :length]

    def _run(self, tokens: Tensor, attend: Attend, last: Callable[[Tensor], Tensor]) -> Tensor | None:
        """Through all layers of all stages; `last` picks the rows [n, H] whose logits are wanted."""
        logits, index = None, 0
        for chunk, layers in zip(self._chunks, self._layers, strict=True):
            hidden = _embed(chunk, tokens) if chunk.pre_process else self._receive(tokens)
            for layer in layers:
                hidden = layer(hidden, index, attend)
                index += 1
            if chunk.decoder.final_layernorm is not None:
                hidden = chunk.decoder.final_layernorm(hidden)
            if chunk.post_process:
                logits = project(last(hidden), chunk.head_weight, chunk.head.fp32_logits)
            else:
                self._send(hidden)
        return logits

    def _receive(self, tokens: Tensor) -> Tensor:
        """[.., H] from the stage before: the previous rank, or the last one for a later virtual stage."""
        hidden = self._like.new_empty(*tokens.shape, self._like.shape[1])
        group = self._groups.pp
        source = dist.get_global_rank(group, (group.rank() - 1) % group.size())
        dist.recv(hidden, source, group=group)
        return hidden

    def _send(self, hidden: Tensor) -> None:
        group = self._groups.pp
        target = dist.get_global_rank(group, (group.rank() + 1) % group.size())
        dist.send(hidden.contiguous(), target, group=group)


def _embed(chunk: nn.Module, tokens: Tensor) -> Tensor:
    """tokens [..] -> [.., H], whole on every tensor-parallel rank; the table may be spread over them by rows.
    """
    table = chunk.embedding.word_embeddings
    group = table.tp_group
    if group.size() == 1:
        return F.embedding(tokens, table.weight)
    local = tokens - table.vocab_start_index
    mine = (local >= 0) & (local < len(table.weight))
    hidden = F.embedding(local.where(mine, 0), table.weight) * mine[..., None]
    dist.all_reduce(hidden, group=group)
    return hidden


def _anywhere(here: bool, groups: Groups) -> bool:
    """Whether it is so on any rank of the world."""
    flag = torch.tensor([here], dtype=torch.int32, device=groups.device)
    dist.all_reduce(flag, dist.ReduceOp.MAX)
    return bool(flag)

"""From logits to tokens and their log-probs, with the vocabulary spread over tensor-parallel ranks."""

# Shapes: N rows, V true vocabulary, W columns of this rank.

from dataclasses import dataclass

import torch
import torch.distributed as dist
from torch import Tensor

from r1mega.rollout.noise import gumbel
from r1mega.rollout.sampling import Sampling


@dataclass(frozen=True, slots=True)
class VocabShard:
    """The columns one rank holds."""

    start: int  # token id of the first column
    vocab_size: int  # V; columns of ids from V on are padding and are never sampled
    group: dist.ProcessGroup | None  # tensor-parallel group; None: this rank holds all


def sample(logits: Tensor, seeds: Tensor, positions: Tensor, sampling: Sampling, shard: VocabShard
           ) -> tuple[Tensor, Tensor]:
    """Draw one token a row.

    logits [N, W], seeds [N] int64, positions [N] int64 (how many tokens the row has sampled before) -> token
    ids [N] int64 and their log-probs [N] float32 under softmax(logits / temperature) over the whole
    vocabulary, before top-k and top-p. The same on all ranks of the group. Only four numbers a row cross
    ranks, unless top-k or top-p is on: then the logits are gathered.
    """
    scaled = logits.float()
    if sampling.temperature not in (0, 1):
        scaled = scaled / sampling.temperature
    if sampling.filters:
        scaled, shard = _gathered(scaled, shard)
    columns = min(scaled.shape[1], shard.vocab_size - shard.start)  # those that are not padding
    if columns < 1:
        columns, scaled = 1, scaled.new_full((len(scaled), 1), -torch.inf)
    ids = torch.arange(shard.start, shard.start + columns, device=scaled.device)
    scaled = scaled[:, :columns]
    scores = keep_top(scaled, sampling.top_k, sampling.top_p) if sampling.filters else scaled
    if sampling.temperature > 0:
        scores = scores + gumbel(seeds, positions, ids)
    best, column = scores.max(-1)
    chosen = scaled.gather(1, column[:, None])[:, 0]
    total = scaled.logsumexp(-1)
    if shard.group is None:
        return ids[column], chosen - total
    return _best_of_ranks(torch.stack([best, ids[column], chosen, total], -1).double(), shard.group)


def keep_top(scaled: Tensor, top_k: int, top_p: float) -> Tensor:
    """Rule out all but the top tokens.

    scaled [N, V] logits over the temperature -> the same with -inf at what is ruled out: what is not among
    the `top_k` largest (0: off), then what is not in the smallest set of likeliest tokens whose probability,
    renormalised after top-k, reaches `top_p`.
    """
    values, order = scaled.topk(min(top_k, scaled.shape[1]) if top_k else scaled.shape[1], dim=-1)
    before = values.softmax(-1).cumsum(-1).roll(1, -1)  # probability of all likelier tokens
    before[:, 0] = 0  # the likeliest always stays
    values = values.masked_fill(before >= top_p, -torch.inf) if top_p < 1 else values
    return torch.full_like(scaled, -torch.inf).scatter_(1, order, values)


def _gathered(scaled: Tensor, shard: VocabShard) -> tuple[Tensor, VocabShard]:
    if shard.group is None:
        return scaled, shard
    parts = [torch.empty_like(scaled) for _ in range(shard.group.size())]
    dist.all_gather(parts, scaled.contiguous(), group=shard.group)
    return torch.cat(parts, -1), VocabShard(0, shard.vocab_size, None)


def _best_of_ranks(mine: Tensor, group: dist.ProcessGroup) -> tuple[Tensor, Tensor]:
    """[N, 4] of this rank's best score, its token id, its scaled logit, and the log of the sum of
    exponentials.
    """
    parts = [torch.empty_like(mine) for _ in range(group.size())]
    dist.all_gather(parts, mine, group=group)
    ranks = torch.stack(parts)  # [ranks, N, 4]
    winner = ranks[:, :, 0].argmax(0)
    token, chosen = ranks[winner, torch.arange(len(winner), device=mine.device), 1:3].unbind(-1)
    return token.long(), (chosen - ranks[:, :, 3].logsumexp(0)).float()

"""DeepSeek-V3's router, where Megatron's differs.

1. A group's score is the sum of its two best experts, whatever topk and group_topk are (arXiv 2412.19437, section 2.1.2
   and the published model code). Megatron sums the topk // group_topk best, which is the same only if that is 2.
2. The balance term is a mean over sequences (equations 17-20), also where many sequences share a pack. Megatron's
   seq_aux_loss takes a pack for one sequence, so it changes with the packing.
3. Expert loads are counted over real tokens. Megatron's own padding mask does not broadcast and raises.
"""

from typing import Any

import torch
import torch.distributed as dist
from megatron.core.transformer.moe.moe_utils import MoEAuxLossAutoScaler
from megatron.core.transformer.moe.router import TopKRouter

from r1mega.model.pack import Pack


def group_limited_top_k(
    scores_NE: torch.Tensor, top_k: int, num_groups: int, groups_per_token: int
) -> torch.Tensor:
    """Indices [N, top_k] of the experts chosen among the best groups; a group scores by its two best experts."""
    num_tokens, num_experts = scores_NE.shape
    scores_NGX = scores_NE.view(num_tokens, num_groups, num_experts // num_groups)
    group_scores_NG = scores_NGX.topk(2, dim=-1).values.sum(dim=-1)
    chosen_NK = group_scores_NG.topk(groups_per_token, dim=-1, sorted=False).indices
    hidden_NG = torch.ones_like(group_scores_NG, dtype=torch.bool).scatter_(1, chosen_NK, False)
    masked = scores_NGX.masked_fill(hidden_NG[:, :, None], float("-inf"))
    return masked.view(num_tokens, num_experts).topk(top_k, dim=-1, sorted=False).indices


class Router(TopKRouter):
    """Sigmoid scores, biased selection, group limits, and the sequence-level balance term.

    `balance_weight` is set by `build_policy`. `pack` is set by the layer before each call (also when it is recomputed);
    None means that nothing is trained, as when sampling.
    """

    def __init__(self, *args: Any, **kwargs: Any):
        super().__init__(*args, **kwargs)
        self.frozen_expert_bias = True  # our step moves the bias, after it has accepted the gradients
        self.balance_weight = 0.0
        self.pack: Pack | None = None

    def routing(
        self, logits: torch.Tensor, padding_mask: torch.Tensor | None = None
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """logits: [s, b, E]. Returns probs [N, E] (zero where not chosen) and the boolean routing map [N, E]."""
        config = self.config
        logits_NE = logits.view(-1, config.num_moe_experts).float()
        scores_NE = torch.sigmoid(logits_NE)
        with torch.no_grad():
            biased_NE = scores_NE + self.expert_bias
            if config.moe_router_num_groups is None:
                chosen_NK = biased_NE.topk(self.topk, dim=-1, sorted=False).indices
            else:
                chosen_NK = group_limited_top_k(
                    biased_NE, self.topk, config.moe_router_num_groups, config.moe_router_group_topk)
            routing_map_NE = torch.zeros_like(scores_NE, dtype=torch.bool).scatter_(1, chosen_NK, True)
        gates_NE = scores_NE * routing_map_NE
        gates_NE = gates_NE / (gates_NE.sum(dim=-1, keepdim=True) + 1e-20)
        probs_NE = gates_NE * config.moe_router_topk_scaling_factor
        if self.training and torch.is_grad_enabled() and self.pack is not None:
            ids_N = self._local_sequence_ids(self.pack)
            real_N = ids_N < self.pack.num_sequences
            self.local_tokens_per_expert += (routing_map_NE & real_N[:, None]).sum(dim=0)
            if self.balance_weight > 0 and self.pack.num_sequences > 0:
                balance = self._balance(scores_NE[real_N], routing_map_NE[real_N], ids_N[real_N])
                probs_NE = MoEAuxLossAutoScaler.apply(probs_NE, self.balance_weight * balance)
        return probs_NE.to(logits.dtype), routing_map_NE

    def _local_sequence_ids(self, pack: Pack) -> torch.Tensor:
        """The ids of this rank's slice of the pack (sequence parallelism cuts it in rank order)."""
        if not self.config.sequence_parallel:
            return pack.sequence_ids
        return pack.sequence_ids.chunk(self.tp_group.size())[self.tp_group.rank()]

    def _balance(self, scores_NE: torch.Tensor, map_NE: torch.Tensor, ids_N: torch.Tensor) -> torch.Tensor:
        """Sum over sequences of (tokens of the sequence) x (its balance term); this rank's share of it.

        The step divides by the tokens of the whole batch, which makes it a token-weighted mean over sequences.
        f is counted over the whole sequence, so it is summed over the ranks that share it; the term is linear in P,
        so each rank adds its own tokens' part and no gradient crosses ranks.
        """
        num_sequences, num_experts = self.pack.num_sequences, scores_NE.shape[1]
        shape = (num_sequences, num_experts)
        counts_SE = torch.zeros(shape, device=ids_N.device).index_add_(0, ids_N, map_NE.float())
        if self.config.sequence_parallel:
            dist.all_reduce(counts_SE, group=self.tp_group)
        lengths_S1 = counts_SE.sum(dim=1, keepdim=True).clamp(min=1) / self.topk
        f_SE = counts_SE * (num_experts / self.topk) / lengths_S1
        shares_NE = scores_NE / (scores_NE.sum(dim=-1, keepdim=True) + 1e-20)
        return (f_SE[ids_N] * shares_NE).sum()

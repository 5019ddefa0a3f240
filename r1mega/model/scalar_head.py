"""A reward model's head: one score of a sequence, read off its last token.

    score = w · h(last token)                 in fp32, whatever the trunk computes in
    pairwise   -log sigmoid(score of the chosen - score of the rejected)        (Bradley and Terry, Biometrika 39, 1952)
    pointwise  -log sigmoid(score) of a safe reply, -log sigmoid(-score) of an unsafe one
"""

# Shapes: T tokens of a pack, T' of them on this rank (fewer if sequence parallel), S sequences, H hidden.

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

import torch
import torch.nn.functional as F
from megatron.core.tensor_parallel import gather_from_sequence_parallel_region
from torch import Tensor, nn

from r1mega.record import PackedBatch

ROWS = 5  # as a policy's output with a loss: score (for log-prob), entropy, loss, and the two of MTP


@dataclass(frozen=True)
class ScoreLoss:
    """What is minimised: the sum over pairs or sequences of `kind`'s loss, times `scale`.

    pairwise: sequences 0 and 1 of a pack are a pair, the chosen one first, and so on. pointwise: `safe` [S] is 1 or 0.
    """

    kind: Literal["pairwise", "pointwise"]
    scale: float
    safe: Tensor | None = None

    def of(self, scores_S: Tensor) -> Tensor:
        """[S] fp32: the loss at each sequence; of a pair, at the chosen one's."""
        return self.scale * losses(self.kind, scores_S, self.safe)


def losses(kind: str, scores_S: Tensor, safe_S: Tensor | None) -> Tensor:
    """[S]: the loss at each sequence, in the scores' precision."""
    if kind == "pointwise":
        return -F.logsigmoid(torch.where(safe_S > 0, scores_S, -scores_S))
    chosen_P, rejected_P = scores_S[0::2], scores_S[1::2]
    losses_P = -F.logsigmoid(chosen_P - rejected_P)
    return torch.stack([losses_P, torch.zeros_like(losses_P)], dim=1).flatten()


class _Losses(Protocol):
    def of_targets(self, batch: PackedBatch) -> ScoreLoss: ...


class ScalarHead(nn.Module):
    """One vector of weights. It is stored as scalar_head.KIND, so that a model of one kind is never taken for one of
    the other. It starts at zero: all replies are worth the same, and the loss is log 2."""

    def __init__(self, kind: Literal["pairwise", "pointwise"], hidden_size: int, device: torch.device):
        super().__init__()
        self.kind = kind
        self.register_parameter(kind, nn.Parameter(torch.zeros(hidden_size, dtype=torch.float32, device=device)))

    def forward(self, hidden_T1H: Tensor, batch: PackedBatch, policy: nn.Module, loss: _Losses | None) -> Tensor:
        """fp32 [2, T], or with a loss [ROWS, T]: a sequence's score, and its share of the loss, at its last token; all
        else is 0. `hidden_T1H` is [T', 1, H]."""
        if policy.config.sequence_parallel:
            hidden_T1H = gather_from_sequence_parallel_region(
                hidden_T1H, tensor_parallel_output_grad=False, group=policy.pg_collection.tp)
        ends_S = last_tokens(batch)
        scores_S = (hidden_T1H[ends_S, 0].float() * getattr(self, self.kind)).sum(-1)
        rows = torch.zeros(2 if loss is None else ROWS, len(batch.token_ids), device=hidden_T1H.device)
        rows = rows.index_put((torch.zeros_like(ends_S), ends_S), scores_S)
        if loss is None:
            return rows
        losses_S = loss.of_targets(batch).of(scores_S)
        return rows.detach().index_put((torch.full_like(ends_S, 2), ends_S), losses_S)


def last_tokens(batch: PackedBatch) -> Tensor:
    """[S] int64: where each sequence ends."""
    return batch.cu_seqlens[1:batch.num_sequences + 1].long() - 1


def add_scalar_head(chunks: Sequence[nn.Module], kind: Literal["pairwise", "pointwise"]) -> None:
    """Turn a policy into a reward model, in place. Its output layer and MTP stay in its files as they are; nobody
    trains them."""
    for chunk in chunks:
        if chunk.post_process:
            chunk.scalar_head = ScalarHead(kind, chunk.config.hidden_size, next(chunk.parameters()).device)
            chunk.output_layer.requires_grad_(False)
        if chunk.mtp_process:
            chunk.mtp.requires_grad_(False)


@dataclass(frozen=True)
class PreferenceObjective:
    """The mean loss over all judgements of a step (an Objective of training/learner.py)."""

    kind: Literal["pairwise", "pointwise"]
    total: int
    record_names = ()

    def token_loss(self, batch: PackedBatch, scale: float) -> ScoreLoss:
        return ScoreLoss(self.kind, scale / self.total, batch.per_sample["safe"])

    def sums(
        self, batch: PackedBatch, scores_T: Tensor, entropy_T: Tensor, records: Mapping[str, Tensor]
    ) -> Mapping[str, Tensor]:
        """`right`: judgements that the scores agree with (a tie is half right); `margin`: how far the better one is
        above, or a reply on its right side of 0."""
        return judged(self.kind, scores_T[last_tokens(batch)], batch.per_sample["safe"])


def judged(kind: str, scores_S: Tensor, safe_S: Tensor) -> dict[str, Tensor]:
    """Sums over the judgements of a pack: `right` and `margin`, as in PreferenceObjective, and `nll`, their loss."""
    margins = scores_S[0::2] - scores_S[1::2] if kind == "pairwise" else torch.where(safe_S > 0, scores_S, -scores_S)
    right = (margins > 0).double() + 0.5 * (margins == 0).double()
    return {"right": right.sum(), "margin": margins.double().sum(),
            "nll": losses(kind, scores_S.double(), safe_S).sum()}

"""What the trainer eats: samples, and packs of samples."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True, slots=True)
class TrainSample:
    """One token sequence with what the loss needs. All per-token sequences have length N, aligned with `token_ids`.

    Entry t of `loss_mask` and of every array in `per_token` speaks about token t itself (how it was predicted
    from tokens < t); entry 0 is never trained on, since nothing precedes it.
    """

    token_ids: Sequence[int]  # N
    loss_mask: Sequence[int]  # N of 0/1
    per_token: Mapping[str, Sequence[float]] = field(default_factory=dict)  # name -> N, e.g. old_log_probs
    per_sample: Mapping[str, float] = field(default_factory=dict)  # name -> value, e.g. advantage


@dataclass(frozen=True, slots=True)
class PackedBatch:
    """S sequences laid end to end in T slots (the tail padded as one more segment), already shifted.

    Position t predicts `targets[t]`, the token after it in the same sequence; `loss_mask[t]` is 1 where that
    prediction is trained on, 0 at the last token of a sequence, on prompts and on padding.
    """

    token_ids: torch.Tensor  # [T] int64
    targets: torch.Tensor  # [T] int64
    loss_mask: torch.Tensor  # [T] float32
    cu_seqlens: torch.Tensor  # [S + 1] int32 (one more where there is a padding segment), last entry T
    sequence_ids: torch.Tensor  # [T] int64: which of the S sequences a position belongs to; -1 on padding
    num_sequences: int  # S
    per_token: Mapping[str, torch.Tensor] = field(default_factory=dict)  # name -> [T] float32, shifted like targets
    per_sample: Mapping[str, torch.Tensor] = field(default_factory=dict)  # name -> [S] float32

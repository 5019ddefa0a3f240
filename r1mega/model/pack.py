"""A packed batch in the form Megatron's layers take it, with what our own modules need of it."""

from dataclasses import dataclass

import torch
from megatron.core.packed_seq_params import PackedSeqParams

PADDED_SHARE = 2.0  # sequences are attended as one padded batch while that costs at most this many times the tokens


@dataclass
class Pack(PackedSeqParams):
    """Megatron's packed-sequence parameters, plus which sequence a token belongs to.

    `sequence_ids` [T] int64 counts from 0 in order of appearance; padding counts as one more sequence, `num_sequences`.
    `positions` [T] is a token's place in its sequence.
    `rows` [S, L] holds the token index of every position of every segment (clamped past its end) and `slots` [T] the
    place of every token in the flattened rows; both are None where segments are too unequal to be padded.
    """

    sequence_ids: torch.Tensor | None = None
    num_sequences: int = 0
    positions: torch.Tensor | None = None
    rows: torch.Tensor | None = None
    slots: torch.Tensor | None = None

    @classmethod
    def of(cls, cu_seqlens: torch.Tensor, num_sequences: int) -> "Pack":
        """cu_seqlens: [S + 1] int32, segments end to end; the last one may be padding (num_sequences = S - 1)."""
        starts, ends = cu_seqlens[:-1].long(), cu_seqlens[1:].long()
        lengths = ends - starts
        longest, total, segments = int(lengths.max()), int(cu_seqlens[-1]), len(lengths)
        ids = torch.repeat_interleave(torch.arange(segments, device=cu_seqlens.device), lengths)
        positions = torch.arange(total, device=cu_seqlens.device) - starts[ids]
        whole = torch.tensor([0, total], dtype=torch.int32, device=cu_seqlens.device)
        rows = slots = None
        if segments * longest <= PADDED_SHARE * total:
            offsets = torch.arange(longest, device=cu_seqlens.device)
            rows = torch.minimum(starts[:, None] + offsets, (ends - 1)[:, None])
            slots = ids * longest + positions
        return cls(
            qkv_format="thd", cu_seqlens_q=cu_seqlens, cu_seqlens_kv=cu_seqlens, max_seqlen_q=longest,
            max_seqlen_kv=longest, sequence_ids=ids, num_sequences=num_sequences, positions=positions, rows=rows,
            slots=slots,
            # What Megatron turns by rotary tables: the whole pack at once, since ours are made for it (rotary.py).
            cu_seqlens_q_padded=whole, cu_seqlens_kv_padded=whole)

"""Rotary embeddings: tables of a whole pack at once, Llama 3.1's wavelengths, and turning vectors without Megatron.

For packed sequences Megatron turns each sequence by itself, in a Python loop that costs by the number of sequences:
hundreds of short ones in RL. Looked up by position, the table covers the pack as if it were one sequence.
"""

import math
from typing import Any

import torch

from r1mega.config.model import Llama3Rope


class PackedRotary(torch.nn.Module):
    """Wraps the rotary embedding of one attention layer.

    While `positions` [T] is set, the table has a row for every token of the pack: [T, 1, 1, rope]. Otherwise it is the
    wrapped module's own, by position.
    """

    def __init__(self, table: torch.nn.Module):
        super().__init__()
        self.table = table
        self.positions: torch.Tensor | None = None

    def forward(self, max_seq_len: int, **kwargs: Any) -> Any:
        found = self.table(max_seq_len, **kwargs)
        if self.positions is None:
            return found
        if isinstance(found, tuple):  # YaRN also returns its scale
            return found[0][self.positions], *found[1:]
        return found[self.positions]

    def get_rotary_seq_len(self, *args: Any, **kwargs: Any) -> int:
        return self.table.get_rotary_seq_len(*args, **kwargs)


def llama3_frequencies(frequencies_F: torch.Tensor, rope: Llama3Rope) -> torch.Tensor:
    """Angles a position, stretched as `rope_type="llama3"` in transformers does it: long wavelengths by the factor,
    short ones not at all, those between in proportion to their turns within the original context."""
    turns_F = rope.original_context * frequencies_F / (2 * math.pi)
    kept_F = ((turns_F - rope.low_freq_factor) / (rope.high_freq_factor - rope.low_freq_factor)).clamp(0, 1)
    return (1 - kept_F) * frequencies_F / rope.factor + kept_F * frequencies_F


def rotate_halves(x: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor) -> torch.Tensor:
    """RoPE on [.., 2F] where entry i is turned with entry i + F; cos and sin [.., F]."""
    first, second = x.chunk(2, -1)
    return torch.cat([first * cos - second * sin, second * cos + first * sin], -1)

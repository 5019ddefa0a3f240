"""Rotary tables of a whole pack at once.

For packed sequences Megatron turns each sequence by itself, in a Python loop that costs by the number of sequences:
hundreds of short ones in RL. Looked up by position, the table covers the pack as if it were one sequence.
"""

from typing import Any

import torch


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

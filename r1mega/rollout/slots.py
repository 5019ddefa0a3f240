"""Which sequence lives in which row of the cache.

Rows 0.. num_active - 1 are always the busy ones: a finished row is overwritten by the last busy one, new
requests are appended. So every step works on a slice, and the batch shrinks with the work that is left.
"""

# Shapes: S slots, N active rows, n new rows, R = max_new_tokens.

import torch
from torch import Tensor

from r1mega.record import Completion
from r1mega.rollout.sampling import Sampling


class Slots:
    """State of every row, on the device; equal on all ranks of a replica."""

    def __init__(self, num_slots: int, sampling: Sampling, device: torch.device) -> None:
        self.num_slots = num_slots
        self.requests: list[int] = []  # by active row: index of its request
        self._device = device
        self._max_new_tokens = sampling.max_new_tokens
        self._stop_ids = torch.tensor(sampling.stop_ids, dtype=torch.int64, device=device)
        row = {"dtype": torch.int64, "device": device}
        self._tokens = torch.zeros(num_slots, **row)
        self._positions = torch.zeros(num_slots, **row)
        self._sampled = torch.zeros(num_slots, **row)
        self._seeds = torch.zeros(num_slots, **row)
        self._token_ids = torch.zeros(num_slots, sampling.max_new_tokens, **row)
        self._log_probs = torch.zeros(num_slots, sampling.max_new_tokens, dtype=torch.float32, device=device)

    @property
    def num_active(self) -> int:
        return len(self.requests)

    @property
    def num_free(self) -> int:
        return self.num_slots - self.num_active

    @property
    def tokens(self) -> Tensor:
        """[N] the newest token of each row, not yet in the cache."""
        return self._tokens[: self.num_active]

    @property
    def positions(self) -> Tensor:
        """[N] where that token goes."""
        return self._positions[: self.num_active]

    @property
    def seeds(self) -> Tensor:
        """[N]"""
        return self._seeds[: self.num_active]

    @property
    def sampled(self) -> Tensor:
        """[N] tokens sampled so far."""
        return self._sampled[: self.num_active]

    def add(self, requests: list[int], seeds: list[int], prompt_lengths: list[int]) -> None:
        """Give the next free rows to these requests; their first token is still to be sampled."""
        first, self.requests = self.num_active, self.requests + requests
        rows = slice(first, self.num_active)
        self._seeds[rows] = torch.tensor(seeds, device=self._device)
        self._positions[rows] = torch.tensor(prompt_lengths, device=self._device) - 1
        self._sampled[rows] = 0

    def record(self, first_row: int, tokens: Tensor, log_probs: Tensor) -> tuple[list[int], int]:
        """Take the sampled tokens [N - first_row] and log-probs of the active rows from `first_row` on.

        Returns the rows that are done and the longest row's number of cached positions, the new token's
        included.
        """
        rows = slice(first_row, self.num_active)
        column = self._sampled[rows, None]
        self._token_ids[rows].scatter_(1, column, tokens[:, None])
        self._log_probs[rows].scatter_(1, column, log_probs[:, None])
        self._tokens[rows] = tokens
        self._positions[rows] += 1
        self._sampled[rows] += 1
        done = self._sampled[rows] >= self._max_new_tokens
        if len(self._stop_ids):
            done |= (tokens[:, None] == self._stop_ids).any(1)
        longest = self.positions.max() + 1
        num_done, length = torch.stack([done.sum(), longest]).tolist()  # the one wait for the device
        return (done.nonzero()[:, 0] + first_row).tolist() if num_done else [], length

    def take(self, rows: list[int], stop_ids: frozenset[int]) -> list[tuple[int, Completion]]:
        """The finished completions of these rows, with the index of their request."""
        index = torch.tensor(rows, device=self._device)
        states = (self._sampled, self._token_ids, self._log_probs)
        taken = []
        for row, count, ids, values in zip(rows, *(state[index].tolist() for state in states), strict=True):
            finish = "stop" if ids[count - 1] in stop_ids else "length"
            taken.append((self.requests[row], Completion(tuple(ids[:count]), tuple(values[:count]), finish)))
        return taken

    def release(self, rows: list[int]) -> tuple[Tensor, Tensor]:
        """Free these rows and close the gaps.

        Returns (sources [m], targets [m]): the rows that moved and where to, for whoever keeps more about
        rows.
        """
        gone = set(rows)
        remaining = self.num_active - len(gone)
        targets = [row for row in rows if row < remaining]
        sources = [row for row in range(remaining, self.num_active) if row not in gone]
        for source, target in zip(sources, targets, strict=True):
            self.requests[target] = self.requests[source]
        del self.requests[remaining:]
        source = torch.tensor(sources, dtype=torch.int64, device=self._device)
        target = torch.tensor(targets, dtype=torch.int64, device=self._device)
        if targets:
            for state in (self._tokens, self._positions, self._sampled, self._seeds, self._token_ids,
                          self._log_probs):
                state[target] = state[source]
        return source, target

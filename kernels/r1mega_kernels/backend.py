"""What an implementation of `log_prob` is, and how one is chosen: by name, never by what happens to be installed."""

from dataclasses import dataclass
from typing import Literal, Protocol

import torch
import torch.distributed as dist
from torch import Tensor

Implementation = Literal["reference", "triton"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """How log-probs are computed from logits; see `log_prob`, which documents each."""

    temperature: float = 1.0
    group: dist.ProcessGroup | None = None
    vocab_size: int | None = None
    """None: all the columns that the ranks of `group` hold."""
    ignore_index: int | None = None
    implementation: Implementation = "reference"

    @property
    def ranks(self) -> int:
        return 1 if self.group is None else dist.get_world_size(self.group)

    def span(self, columns: int) -> tuple[int, int, int]:
        """(token of column 0, true columns here, true vocabulary size), where each rank holds `columns`."""
        first = 0 if self.group is None else dist.get_rank(self.group) * columns
        size = self.ranks * columns if self.vocab_size is None else self.vocab_size
        return first, min(max(size - first, 0), columns), size


class Backend(Protocol):
    """A module with these functions; the first two are collective over `options.group`."""

    def forward(
        self, logits_TV: Tensor, targets_T: Tensor, options: Options
    ) -> tuple[Tensor, Tensor, tuple[Tensor, ...]]:
        """log-probs [T], entropies [T], and what `backward` needs beside the logits: some numbers a row."""
        ...

    def backward(
        self, gradient_TV: Tensor, logits_TV: Tensor, saved: tuple[Tensor, ...], upstream: tuple[Tensor, Tensor | None],
        options: Options,
    ) -> None:
        """Write dL/dlogits to `gradient_TV` (which may be `logits_TV`) from (dL/dlog p [T], dL/dH [T] or None)."""
        ...

    def scale_rows(self, gradient_TV: Tensor, factors_T: Tensor) -> None:
        """gradient[t] *= factor[t], in place; a row whose factor is 1 is not touched. Not collective."""
        ...


def backend(implementation: str, logits_like: Tensor) -> Backend:
    """The implementation asked for. RuntimeError or ValueError, saying what to do, if it cannot run on such logits."""
    if implementation == "reference":
        from r1mega_kernels import log_prob_reference

        return log_prob_reference
    if implementation != "triton":
        raise ValueError(f"implementation={implementation!r}; legal are 'reference' and 'triton'")
    try:  # an optional dependency: this is its only door
        from r1mega_kernels import log_prob_triton
    except ImportError as error:
        raise RuntimeError(
            "implementation='triton' needs the package triton; install it or use implementation='reference'"
        ) from error
    log_prob_triton.check(logits_like)
    return log_prob_triton


def check(logits: Tensor, targets: Tensor, options: Options) -> None:
    """Raise ValueError if shapes, types or sizes do not fit."""
    if logits.shape[:-1] != targets.shape or logits.ndim == 0 or logits.shape[-1] == 0:
        raise ValueError(
            f"logits {list(logits.shape)} need one target a row, [..., V] and [...], but targets are "
            f"{list(targets.shape)}"
        )
    if not logits.is_floating_point() or targets.is_floating_point() or targets.dtype == torch.bool:
        raise ValueError(f"logits are {logits.dtype} and targets {targets.dtype}: floats and integers needed")
    check_sizes(logits.shape[-1], options)


def check_sizes(columns: int, options: Options) -> None:
    """Raise ValueError if temperature or vocabulary size make no sense, each rank holding `columns`."""
    if not 0 < options.temperature < float("inf"):
        raise ValueError(f"temperature={options.temperature} must be above 0 and finite")
    held = options.ranks * columns
    if options.vocab_size is not None and not 0 < options.vocab_size <= held:
        raise ValueError(
            f"vocab_size={options.vocab_size} must lie between 1 and the {held} columns that {options.ranks} ranks of "
            f"{columns} hold"
        )

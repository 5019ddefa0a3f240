"""A loss that is a sum over tokens of a function of their log-prob and entropy: what can be fused with the head.

Such a loss says at once what its derivatives by log p and by H are, so that the gradient of the logits can be made in
the forward pass, as soon as the log-probs are known.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

from torch import Tensor


class TokenTerms(NamedTuple):
    """One entry a row, [R], without autograd."""

    loss: Tensor  # its share of the loss; the loss is the sum
    d_log_probs: Tensor  # d loss / d log p
    d_entropy: Tensor | None  # d loss / d H; None: 0
    records: Mapping[str, Tensor]  # to look at, under the names that the loss has listed


class TokenLoss(Protocol):
    """A loss of tokens."""

    record_names: tuple[str, ...]
    needs_all_rows: bool
    """Whether a token's terms depend on other tokens, so that a chunk of the rows is not enough."""

    def __call__(self, log_probs_R: Tensor, entropy_R: Tensor, rows: Tensor | slice) -> TokenTerms:
        """The terms of some rows; `rows` are their indices among the T that the loss was made for."""
        ...


@dataclass(frozen=True, slots=True)
class CrossEntropy:
    """-w log p: next-token prediction, with a weight for each token."""

    weights_T: Tensor
    record_names: tuple[str, ...] = field(default=(), init=False)
    needs_all_rows: bool = field(default=False, init=False)

    def __call__(self, log_probs_R: Tensor, entropy_R: Tensor, rows: Tensor | slice) -> TokenTerms:
        weights_R = self.weights_T[rows].to(log_probs_R.dtype)
        loss_R = -weights_R * log_probs_R.masked_fill(weights_R == 0, 0)  # weightless: 0, even where log p is NaN
        return TokenTerms(loss_R, -weights_R, None, {})


class LossTokens(NamedTuple):
    """One entry a token, [...] as the targets. Only `loss` carries a gradient: sum it up."""

    loss: Tensor
    log_probs: Tensor
    entropy: Tensor
    records: Mapping[str, Tensor]

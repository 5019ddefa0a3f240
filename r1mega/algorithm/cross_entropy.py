"""Next-token prediction: the loss of pretraining and of supervised fine-tuning."""

from typing import NamedTuple

from torch import Tensor


class CrossEntropy(NamedTuple):
    loss_sum: Tensor  # scalar, with gradient
    count: Tensor  # scalar int64: what to divide by, once it is added up over the step


def cross_entropy(log_probs_T: Tensor, loss_mask_T: Tensor) -> CrossEntropy:
    """-log p summed over the tokens that are trained on, and their number.

    log_probs_T: log p of each target, [T] floating point. loss_mask_T: 1 where trained on, else 0; the others
    do not count and get no gradient, whatever their log-prob. Nothing trained on: 0 and 0.
    """
    mask_T = loss_mask_T > 0
    return CrossEntropy(-log_probs_T.masked_fill(~mask_T, 0).sum(), mask_T.sum())

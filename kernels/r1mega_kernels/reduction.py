"""From losses of tokens to the loss of a batch: as a weight for each token.

The loss of an optimizer step is the sum of weight times loss over all its tokens, so it is also the sum over
its micro-batches and data-parallel ranks, however it is cut, as long as a sequence stays in one piece. The
counts to divide by are those of the whole step: count them before it, and add them up over the ranks.

With a count of 1 the weights give a sum, to be divided by the global count at the end.

Shapes: T positions of a pack, S sequences in it.
"""

import torch
from torch import Tensor


def per_output_mean(
    loss_mask_T: Tensor, sequence_ids_T: Tensor, num_sequences: int, total_outputs: int
) -> Tensor:
    """1 / |o_i| over an output's tokens, then the mean over outputs: weights, fp32 [T].

    The reduction of DeepSeekMath (arXiv 2402.03300) equation 3, (1/G) sum_i (1/|o_i|) sum_t; with groups of
    equal size, the mean over questions and outputs at once.

    loss_mask_T: 1 where a token is trained on, else 0. sequence_ids_T: in [0, num_sequences), or -1 on
    padding.
    total_outputs: outputs with a trained token (`count_outputs`) in the whole step; the others weigh nothing.
    """
    mask_T = loss_mask_T > 0
    lengths_T = _tokens_per_sequence(mask_T, sequence_ids_T, num_sequences)[sequence_ids_T]
    weights_T = 1.0 / (lengths_T.clamp(min=1).float() * max(total_outputs, 1))
    return weights_T.masked_fill(lengths_T == 0, 0).masked_fill(~mask_T, 0)


def per_token_mean(loss_mask_T: Tensor, total_tokens: int) -> Tensor:
    """The same weight for each trained token: weights, fp32 [T].

    total_tokens: trained tokens (`count_tokens`) in the whole step.
    """
    return (loss_mask_T > 0).float() / max(total_tokens, 1)


def constant_mean(loss_mask_T: Tensor, total_outputs: int, length: int) -> Tensor:
    """Sums over tokens divided by a constant, then the mean over outputs: weights, fp32 [T].

    Dr. GRPO (arXiv 2503.20783): no output's length changes what its tokens weigh. length: the constant, e.g. the
    longest that an output may be.
    """
    return (loss_mask_T > 0).float() / (max(total_outputs, 1) * length)


def count_outputs(loss_mask_T: Tensor, sequence_ids_T: Tensor, num_sequences: int) -> Tensor:
    """Sequences with at least one trained token, int64 scalar."""
    return (_tokens_per_sequence(loss_mask_T > 0, sequence_ids_T, num_sequences) > 0).sum()


def count_tokens(loss_mask_T: Tensor) -> Tensor:
    """Trained tokens, int64 scalar."""
    return (loss_mask_T > 0).sum()


def _tokens_per_sequence(mask_T: Tensor, sequence_ids_T: Tensor, num_sequences: int) -> Tensor:
    """Trained tokens of each sequence, int64 [S + 1]; the last entry, which padding's -1 leads to, is 0."""
    counted_T = mask_T & (sequence_ids_T >= 0)
    lengths_S1 = torch.zeros(num_sequences + 1, dtype=torch.int64, device=mask_T.device)
    return lengths_S1.index_add_(0, sequence_ids_T % (num_sequences + 1), counted_T.long())

"""The policy's loss on a pack of sampled sequences."""

from dataclasses import dataclass

import torch.nn.functional as F
from torch import Tensor

from r1mega.algorithm.grpo import grpo_tokens
from r1mega.algorithm.reduction import per_output_mean, per_token_mean
from r1mega.config.rl import GrpoConfig
from r1mega.record import PackedBatch


@dataclass(frozen=True, slots=True)
class PolicyLoss:
    """The share of one micro-batch in a step's loss, and sums to report."""

    loss_sum: Tensor  # scalar, with gradient: add up over micro-batches and data-parallel ranks
    metrics: dict[str, Tensor]
    """Scalars without gradient, sums over trained tokens: `tokens` (their number), `kl`, `entropy`, `clipped`
    (where the clip is active), `ratio` (policy / old policy). Add up over the step, then divide by
    `tokens`."""


def policy_loss(
    log_probs_T: Tensor, entropy_T: Tensor, batch: PackedBatch, weights_T: Tensor, config: GrpoConfig
) -> PolicyLoss:
    """GRPO on one pack: sum over its tokens of weight times loss.

    log_probs_T, entropy_T [T]: of `batch.targets` under the policy; `log_probs_T` carries the gradient.
    batch.per_token: `old_log_probs`, and `ref_log_probs` if there is a reference. Without `old_log_probs` the
    policy itself is the old one, as it is in the one optimizer step of a rollout that is not split: every
    ratio is 1, its gradient remains. batch.per_sample: `advantage`.
    weights_T: from `loss_weights`.

    Positions outside the loss mask play no part, whatever is in them.
    Raises ValueError if the batch lacks an advantage, or a reference that `kl_coef` needs.
    """
    if "advantage" not in batch.per_sample:
        raise ValueError(f"batch.per_sample has {sorted(batch.per_sample)}; GRPO needs 'advantage'")
    unused_T = batch.loss_mask <= 0

    def trained(values_T: Tensor) -> Tensor:
        return values_T.masked_fill(unused_T, 0)

    log_probs_T = trained(log_probs_T)  # here for the gradient; below for the sums
    old_T, ref_T = batch.per_token.get("old_log_probs"), batch.per_token.get("ref_log_probs")
    advantages_S1 = F.pad(batch.per_sample["advantage"], (0, 1))  # one more, for the -1 of padding
    advantages_T = advantages_S1[batch.sequence_ids]
    tokens = grpo_tokens(log_probs_T, log_probs_T if old_T is None else old_T, ref_T, advantages_T, config)
    metrics = {
        "tokens": (~unused_T).sum(),
        "kl": trained(tokens.kl).sum(),
        "entropy": trained(entropy_T.detach()).sum(),
        "clipped": trained(tokens.clipped).sum(),
        "ratio": trained(tokens.ratio).sum(),
    }
    return PolicyLoss((weights_T * trained(tokens.loss)).sum(), metrics)


def loss_weights(batch: PackedBatch, config: GrpoConfig, *, total_outputs: int, total_tokens: int) -> Tensor:
    """The recipe's reduction: a weight for each token, fp32 [T].

    total_outputs, total_tokens: of the whole optimizer step (`count_outputs`, `count_tokens`, over all
    ranks).
    """
    match config.reduction:
        case "per_output":
            return per_output_mean(batch.loss_mask, batch.sequence_ids, batch.num_sequences, total_outputs)
        case "per_token":
            return per_token_mean(batch.loss_mask, total_tokens)

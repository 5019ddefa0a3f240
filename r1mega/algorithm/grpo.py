"""GRPO on a pack of sampled sequences: from the recipe and the batch to the loss of each token."""

import torch.nn.functional as F
from r1mega_kernels import Grpo, GrpoOptions, GrpoTokens, Implementation
from r1mega_kernels.reduction import constant_mean, per_output_mean, per_token_mean
from torch import Tensor

from r1mega.config.rl import GrpoConfig
from r1mega.record import PackedBatch


def grpo(
    batch: PackedBatch, weights_T: Tensor, config: GrpoConfig, implementation: Implementation = "reference"
) -> Grpo:
    """GRPO (arXiv 2402.03300, equation 3; arXiv 2501.12948, equations 1 and 2) on the tokens of one pack.

    batch.per_token: `old_log_probs`, and `ref_log_probs` if there is a reference. Without `old_log_probs` the policy
    itself is the old one, as it is in the one optimizer step of a rollout that is not split: every ratio is 1, its
    gradient remains. batch.per_sample: `advantage`.
    weights_T: from `loss_weights`; positions of weight 0 play no part, whatever is in them.

    With `importance_cap`, the policy term of a token is multiplied by min(cap, old / sampler), where both
    `old_log_probs` and `sampler_log_probs` are there: what was sampled by a policy slightly off counts as it should
    (truncated importance sampling).
    Raises ValueError if the batch lacks an advantage, or a reference that `kl_coef` needs.
    """
    if "advantage" not in batch.per_sample:
        raise ValueError(f"batch.per_sample has {sorted(batch.per_sample)}; GRPO needs 'advantage'")
    old_T, sampler_T = batch.per_token.get("old_log_probs"), batch.per_token.get("sampler_log_probs")
    importance_T = None
    if config.importance_cap is not None and old_T is not None and sampler_T is not None:
        importance_T = (old_T - sampler_T).exp().clamp(max=config.importance_cap)
    advantages_S1 = F.pad(batch.per_sample["advantage"], (0, 1))  # one more, for the -1 of padding
    tokens = GrpoTokens(
        advantages_T=advantages_S1[batch.sequence_ids], weights_T=weights_T, old_log_probs_T=old_T,
        ref_log_probs_T=batch.per_token.get("ref_log_probs"), importance_T=importance_T,
        sequence_ids_T=batch.sequence_ids)
    options = GrpoOptions(
        clip_low=config.clip_low, clip_high=config.clip_high, dual_clip=config.dual_clip, kl_coef=config.kl_coef,
        kl_estimator=config.kl_estimator, ratio=config.ratio, entropy_coef=config.entropy_coef)
    return Grpo(tokens, options, implementation)


def loss_weights(batch: PackedBatch, config: GrpoConfig, *, total_outputs: int, total_tokens: int) -> Tensor:
    """The recipe's reduction: a weight for each token, fp32 [T].

    total_outputs, total_tokens: of the whole optimizer step, over all ranks.
    """
    match config.reduction:
        case "per_output":
            return per_output_mean(batch.loss_mask, batch.sequence_ids, batch.num_sequences, total_outputs)
        case "per_token":
            return per_token_mean(batch.loss_mask, total_tokens)
        case "constant":
            return constant_mean(batch.loss_mask, total_outputs, config.constant_length)

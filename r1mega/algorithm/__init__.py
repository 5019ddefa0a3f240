"""The maths of the losses: tensors in, tensors out."""

from r1mega.algorithm.advantage import group_advantages
from r1mega.algorithm.cross_entropy import cross_entropy
from r1mega.algorithm.grpo import GrpoTokens, grpo_tokens
from r1mega.algorithm.kl import kl_divergence
from r1mega.algorithm.policy_loss import PolicyLoss, loss_weights, policy_loss
from r1mega.algorithm.reduction import count_outputs, count_tokens, per_output_mean, per_token_mean
from r1mega.algorithm.selection import drop_equal_groups, mini_batches

__all__ = [
    "GrpoTokens", "PolicyLoss", "count_outputs", "count_tokens", "cross_entropy", "drop_equal_groups",
    "group_advantages", "grpo_tokens", "kl_divergence", "loss_weights", "mini_batches", "per_output_mean",
    "per_token_mean", "policy_loss",
]

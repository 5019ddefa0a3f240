"""The maths of the losses: tensors in, tensors out."""

from r1mega.algorithm.advantage import group_advantages
from r1mega.algorithm.grpo import grpo, loss_weights
from r1mega.algorithm.selection import drop_equal_groups, mini_batches

__all__ = ["drop_equal_groups", "group_advantages", "grpo", "loss_weights", "mini_batches"]

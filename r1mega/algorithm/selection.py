"""What of a rollout is trained on, and in which order."""

import hashlib
from collections.abc import Sequence

from r1mega.record import RolloutGroup


def drop_equal_groups(groups: Sequence[RolloutGroup]) -> tuple[list[RolloutGroup], int]:
    """The groups whose rewards are not all equal, in order, and how many were left out.

    Equal rewards mean advantages of 0: such a group teaches nothing but to stay near the reference.
    """
    kept = [group for group in groups if len({rollout.score.total for rollout in group.rollouts}) > 1]
    return kept, len(groups) - len(kept)


def mini_batches(num_samples: int, num_mini_batches: int, seed: int) -> list[list[int]]:
    """The samples of a rollout, by index, split at random for one optimizer step each.

    DeepSeek-R1 (arXiv 2501.12948): 8,192 outputs into 16 mini-batches, one inner epoch. Every sample is in
    exactly one; sizes differ by at most 1. With fewer samples than `num_mini_batches`, one each; never an
    empty one.

    Decided by the arguments alone: the same on every machine and in every version of Python and torch.
    """
    if num_samples < 0 or num_mini_batches < 1:
        raise ValueError(f"cannot split num_samples={num_samples} into num_mini_batches={num_mini_batches}")
    order = sorted(range(num_samples), key=lambda index: hashlib.sha256(f"{seed}/{index}".encode()).digest())
    parts = min(num_mini_batches, num_samples)
    return [order[part::parts] for part in range(parts)]

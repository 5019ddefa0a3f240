"""Which problems a step asks: a pure function of the step, so the position in the data is the step number."""

from functools import lru_cache

import numpy as np

from r1mega.config.error import UserError


def check_step_size(key: str, problems_per_step: int, num_train: int) -> None:
    """Raises UserError where a step asks for more problems than there are; `key` is what the recipe calls it."""
    if problems_per_step > num_train:
        raise UserError(f"{key}={problems_per_step} is more than the {num_train} training problems; lower it or "
                        "enlarge the sources")


def problem_batch(step: int, num_train: int, problems_per_step: int, seed: int) -> list[int]:
    """Indices (into `num_train` problems) of step `step` (from 0): all different.

    Steps cut a stream of epochs into equal pieces; in each epoch every problem comes once, in an order that
    depends on (seed, epoch). Where a step spans two epochs, the second one begins with problems that the step
    has not already taken from the first.
    """
    assert problems_per_step <= num_train, "check_step_size comes before any step"
    first, last = step * problems_per_step, (step + 1) * problems_per_step
    batch: list[int] = []
    for epoch in range(first // num_train, (last - 1) // num_train + 1):
        order = _epoch_order(epoch, num_train, problems_per_step, seed)
        begin = epoch * num_train
        batch += order[max(first - begin, 0):last - begin].tolist()
    return batch


@lru_cache(maxsize=4)
def _epoch_order(epoch: int, num_train: int, problems_per_step: int, seed: int) -> np.ndarray:
    """Order of one epoch, [num_train] int64.

    Its head is rearranged by the tail of the epoch before; that tail is out of reach of its own head's
    rearrangement when an epoch has three steps or more, otherwise the chain is followed from the first epoch.
    """
    start = epoch - 1 if num_train >= 3 * problems_per_step else 0
    order = _shuffle(max(start, 0), num_train, seed)
    for current in range(max(start, 0) + 1, epoch + 1):
        shuffled = _shuffle(current, num_train, seed)
        num_before = current * num_train % problems_per_step
        if num_before:
            is_new = ~np.isin(shuffled, order[num_train - num_before:])
            head = np.flatnonzero(is_new)[:problems_per_step - num_before]
            shuffled = np.concatenate([shuffled[head], np.delete(shuffled, head)])
        order = shuffled
    return order


def _shuffle(epoch: int, num_train: int, seed: int) -> np.ndarray:
    """[num_train] int64. Philox's raw stream is fixed by numpy's compatibility policy, its `permutation` is
    not."""
    draws = np.random.Philox(key=np.array([seed, epoch], dtype=np.uint64)).random_raw(num_train)
    return np.argsort(draws, kind="stable")

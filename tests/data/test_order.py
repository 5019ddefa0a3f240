"""Which problems a step asks."""

from collections import Counter

import pytest

from r1mega.data import problem_batch


@pytest.mark.parametrize(
    ("num_train", "per_step"), [(10, 3), (10, 10), (7, 5), (64, 4), (5, 1), (12, 5), (100, 32)]
)
def test_every_epoch_asks_every_problem_once_and_no_step_asks_one_twice(num_train, per_step):
    """40 epochs as one stream; a step that spans two epochs may look into the next, but not repeat itself."""
    num_steps = 40 * num_train // per_step
    batches = [problem_batch(step, num_train, per_step, seed=1) for step in range(num_steps)]
    assert all(len(set(batch)) == per_step for batch in batches)
    stream = [index for batch in batches for index in batch]
    for epoch in range(len(stream) // num_train):
        assert sorted(stream[epoch * num_train:(epoch + 1) * num_train]) == list(range(num_train))


def test_a_step_can_be_asked_for_at_once_whatever_was_asked_before():
    from r1mega.data.order import _epoch_order

    forwards = [problem_batch(step, 23, 8, seed=5) for step in range(60)]
    _epoch_order.cache_clear()
    assert problem_batch(59, 23, 8, seed=5) == forwards[59]
    assert [problem_batch(step, 23, 8, seed=5) for step in reversed(range(60))] == forwards[::-1]


def test_epochs_and_seeds_have_orders_of_their_own():
    first, second = problem_batch(0, 50, 50, seed=0), problem_batch(1, 50, 50, seed=0)
    assert first != second and first != problem_batch(0, 50, 50, seed=1)


def test_the_order_of_a_seed_never_changes():
    """Pinned: a resumed run must go on with the same problems on another machine and version of numpy."""
    assert problem_batch(0, 10, 10, seed=0) == PINNED


def test_shuffles_put_every_problem_everywhere():
    """Problem 0's place in 6 is uniform: 600 epochs, 100 expected at each; 5 standard deviations are 46."""
    places = Counter(problem_batch(epoch, 6, 6, seed=9).index(0) for epoch in range(600))
    assert all(abs(places[place] - 100) < 46 for place in range(6))


PINNED = [0, 2, 9, 1, 8, 5, 4, 3, 6, 7]

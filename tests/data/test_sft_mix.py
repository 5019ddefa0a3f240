"""Which samples a supervised step takes."""

from collections import Counter

import pytest

from r1mega.config import UserError
from r1mega.data.sft_mix import Mix, epoch_numbers


def all_batches(mix: Mix) -> list[list[int]]:
    return [mix.batch(step) for step in range(mix.steps)]


@pytest.mark.parametrize(("sizes", "epochs", "per_step"), [
    ((10,), 3, 4), ((7, 5), 2, 4), ((8, 8), 1, 16), ((9,), 4, 5)])
def test_whole_sources_are_used_once_an_epoch_and_nothing_is_left_over(sizes, epochs, per_step):
    mix = Mix(sizes, None, epochs, per_step, seed=3)
    batches = all_batches(mix)
    assert [len(batch) for batch in batches[:-1]] == [per_step] * (len(batches) - 1)
    assert Counter(number for batch in batches for number in batch) == dict.fromkeys(range(sum(sizes)), epochs)
    stream = [number for batch in batches for number in batch]
    for epoch in range(epochs):
        assert sorted(stream[epoch * sum(sizes):(epoch + 1) * sum(sizes)]) == list(range(sum(sizes)))
    assert all(len(set(batch)) == len(batch) for batch in batches)


def test_steps_by_hand():
    """2 epochs of 10 samples in steps of 8: 20 / 8 is 2.5, so two full steps and one of 4."""
    mix = Mix((10,), None, 2, 8, seed=0)
    assert mix.steps == 3 and [len(mix.batch(step)) for step in range(3)] == [8, 8, 4]


def test_an_epoch_takes_from_sources_in_the_ratio_of_their_weights():
    """600k to 200k of the paper, in small: 60 at weight 3 allow 20 at weight 1."""
    mix = Mix((60, 50), (3.0, 1.0), 1, 10, seed=0)
    assert mix.taken == (60, 20) and mix.epoch_samples == 80
    assert Mix((60, 50), (1.0, 1.0), 1, 10, seed=0).taken == (50, 50)
    assert Mix((10, 10), (0.7, 0.3), 1, 1, seed=0).taken == (10, 4)


def test_what_an_epoch_leaves_of_a_source_comes_in_the_next_ones():
    """20 of 50 an epoch: over five epochs every one of them comes twice, and none twice within an epoch."""
    mix = Mix((60, 50), (3.0, 1.0), 5, 10, seed=1)
    epochs = [epoch_numbers(mix, epoch) for epoch in range(5)]
    assert all(len(set(numbers)) == 80 for numbers in epochs)
    counts = Counter(number for numbers in epochs for number in numbers)
    assert [counts[number] for number in range(60)] == [5] * 60
    assert [counts[number] for number in range(60, 110)] == [2] * 50
    assert Counter(number for batch in all_batches(mix) for number in batch) == counts


def test_a_step_is_the_same_whatever_was_asked_before_and_seeds_differ():
    mix = Mix((31, 17), (2.0, 1.0), 3, 8, seed=5)
    forwards = all_batches(mix)
    epoch_numbers.cache_clear()
    assert mix.batch(7) == forwards[7]
    assert Mix((31, 17), (2.0, 1.0), 3, 8, seed=6).batch(0) != forwards[0]
    assert forwards[0] != forwards[mix.epoch_samples // 8]


def test_sources_of_a_size_have_orders_of_their_own():
    mix = Mix((40, 40), (1.0, 1.0), 1, 8, seed=0)
    half = Mix((40, 40, 20), (1.0, 1.0, 1.0), 1, 8, seed=0)
    assert mix.taken == (40, 40) and half.taken == (20, 20, 20)
    numbers = epoch_numbers(half, 0)
    assert [number - 40 for number in numbers if 40 <= number < 80] != [number for number in numbers if number < 40]


def test_a_mix_that_cannot_be_is_said():
    with pytest.raises(UserError, match=r"sft\.sources\.1\.weight=0\.01.*none of its 50"):
        Mix((50, 50), (1.0, 0.01), 1, 4, seed=0).check()
    with pytest.raises(UserError, match=r"sft\.samples_per_step=9 is more than the 8 samples"):
        Mix((8,), None, 3, 9, seed=0).check()

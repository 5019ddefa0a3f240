import pytest

from r1mega.algorithm import drop_equal_groups, mini_batches
from r1mega.record import Completion, Problem, Rollout, RolloutGroup, Score


def group(*rewards: float) -> RolloutGroup:
    problem = Problem("task", f"question {rewards}", "answer")
    completion = Completion((1,), (-0.5,), "stop")
    return RolloutGroup(
        problem,
        tuple(
            Rollout(problem, i, (0,), completion, "text", Score(reward, {}, {}))
            for i, reward in enumerate(rewards)
        ),
    )


def test_groups_with_equal_rewards_are_left_out_and_counted():
    mixed, also_mixed = group(0, 1, 0), group(2, 2, 1.5)
    kept, dropped = drop_equal_groups([group(1, 1, 1), mixed, group(0, 0, 0), also_mixed, group(3)])
    assert kept == [mixed, also_mixed] and dropped == 3
    assert drop_equal_groups([]) == ([], 0)


def test_every_sample_is_in_exactly_one_mini_batch_of_nearly_equal_size():
    for num_samples, parts in [(8192, 16), (10, 3), (5, 5)]:
        batches = mini_batches(num_samples, parts, seed=1)
        assert len(batches) == parts
        assert sorted(i for batch in batches for i in batch) == list(range(num_samples))
        assert max(map(len, batches)) - min(map(len, batches)) <= 1


def test_the_split_is_decided_by_the_seed_alone():
    # written down, so that a new Python or torch cannot change a run that is resumed
    assert mini_batches(8, 2, seed=7) == [[0, 5, 4, 1], [2, 7, 3, 6]]
    assert mini_batches(8, 2, seed=8) == [[6, 0, 5, 1], [4, 7, 3, 2]]


def test_the_split_is_random():
    # two neighbours of 1000 samples are in different halves with probability 1/2: 500 of 999, give or take 16
    first = set(mini_batches(1000, 2, seed=3)[0])
    apart = sum((i in first) != (i + 1 in first) for i in range(999))
    assert 420 < apart < 580


def test_fewer_samples_than_mini_batches_make_no_empty_ones():
    assert sorted(mini_batches(2, 16, seed=0)) == [[0], [1]]
    assert mini_batches(0, 16, seed=0) == []


def test_a_split_into_nothing_is_refused():
    with pytest.raises(ValueError, match="num_mini_batches=0"):
        mini_batches(4, 0, seed=0)

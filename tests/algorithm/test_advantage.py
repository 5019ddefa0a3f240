import math
import statistics

import pytest
import torch

from r1mega.algorithm import group_advantages


def test_hand_worked_groups():
    # (1, 0, 0, 1): mean 1/2, std 1/2: +-1.
    # (2, 0, 0, 0): mean 1/2, variance (9/4 + 3/4) / 4 = 3/4, std 0.8660; 1.5 / 0.8660 = 1.7321, -0.5774
    rewards = torch.tensor([[1.0, 0.0, 0.0, 1.0], [2.0, 0.0, 0.0, 0.0]])
    expected = torch.tensor([[1.0, -1.0, -1.0, 1.0], [1.7320508, -0.5773503, -0.5773503, -0.5773503]])
    torch.testing.assert_close(group_advantages(rewards), expected, rtol=0, atol=1e-5)  # eps takes 2e-6 of it
    torch.testing.assert_close(group_advantages(rewards, eps=0.0), expected, rtol=0, atol=1e-6)


def test_equals_the_formula_of_the_paper_with_the_populations_std():
    rewards = torch.rand(5, 16, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    advantages = group_advantages(rewards, eps=0.0)
    for group, ours in zip(rewards.tolist(), advantages.tolist(), strict=True):
        mean, std = statistics.fmean(group), statistics.pstdev(group)
        assert ours == pytest.approx([(reward - mean) / std for reward in group], abs=1e-12)
        assert math.fsum(a * a for a in ours) / 16 == pytest.approx(1, abs=1e-12)


def test_without_std_it_is_the_distance_from_the_mean():
    assert group_advantages(torch.tensor([[3.0, 1.0, 2.0]]), normalize_by_std=False).tolist() == [[1, -1, 0]]


@pytest.mark.parametrize("reward", [0.0, 1.0, 0.1, 1e30, -7.3])
@pytest.mark.parametrize("normalize_by_std", [True, False])
def test_group_with_equal_rewards_gets_exactly_zero(reward: float, normalize_by_std: bool):
    # the mean of three times 0.1 is not 0.1 in floating point
    rewards = torch.full((2, 3), reward, dtype=torch.float64)
    assert group_advantages(rewards, normalize_by_std=normalize_by_std, eps=0.0).tolist() == [[0.0] * 3] * 2


def test_rewards_that_differ_by_rounding_are_not_blown_up():
    rewards = torch.tensor([[0.1 + 0.2, 0.3, 0.3]], dtype=torch.float64)
    assert group_advantages(rewards).abs().max() < 1e-9


def test_groups_do_not_know_of_each_other():
    rewards = torch.rand(4, 8)
    assert torch.equal(group_advantages(rewards)[2:3], group_advantages(rewards[2:3]))


def test_a_group_of_one_has_nothing_to_compare_with():
    assert group_advantages(torch.tensor([[5.0]])).tolist() == [[0.0]]


@pytest.mark.parametrize(
    ("rewards", "message"),
    [([[1.0, float("nan")]], "finite"), ([1.0, 2.0], r"\[2\]"), ([[], []], r"\[2, 0\]")],
)
def test_what_is_not_a_matrix_of_finite_rewards_is_refused(rewards: list, message: str):
    with pytest.raises(ValueError, match=message):
        group_advantages(torch.tensor(rewards))

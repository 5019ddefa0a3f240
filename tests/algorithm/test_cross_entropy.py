import math

import pytest
import torch

from r1mega.algorithm import cross_entropy


def test_hand_worked_sum_and_count():
    # -log 1/2 - log 1/8 = 4 log 2, over two trained tokens
    log_probs = torch.tensor([0.5, 0.25, 0.125]).log().requires_grad_()
    loss_sum, count = cross_entropy(log_probs, torch.tensor([1.0, 0.0, 1.0]))
    assert loss_sum.item() == pytest.approx(4 * math.log(2)) and count.item() == 2
    loss_sum.backward()
    assert log_probs.grad.tolist() == [-1, 0, -1]


def test_what_is_masked_plays_no_part_even_if_it_is_not_finite():
    log_probs = torch.tensor([float("nan"), float("-inf")], requires_grad=True)
    loss_sum, count = cross_entropy(log_probs, torch.zeros(2))
    loss_sum.backward()
    assert loss_sum.item() == 0 and count.item() == 0 and log_probs.grad.tolist() == [0, 0]

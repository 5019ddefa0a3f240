import math

import pytest
import torch
from r1mega_kernels import CrossEntropy


def test_cross_entropy_by_hand():
    # -log 1/2 and -log 1/8, weighted 1 and 1/2; rows 2 and 0 of three
    loss = CrossEntropy(torch.tensor([0.5, 0.0, 1.0]))
    terms = loss(torch.tensor([0.5, 0.125]).log(), torch.zeros(2), torch.tensor([2, 0]))
    assert terms.loss.tolist() == pytest.approx([math.log(2), 1.5 * math.log(2)])
    assert terms.d_log_probs.tolist() == [-1.0, -0.5] and terms.d_entropy is None


def test_a_token_without_weight_plays_no_part_even_if_its_log_prob_is_not_finite():
    terms = CrossEntropy(torch.zeros(2))(torch.tensor([float("nan"), float("-inf")]), torch.zeros(2), slice(None))
    assert terms.loss.tolist() == [0, 0] and terms.d_log_probs.tolist() == [0, 0]

"""pass@k against counting every subset of the samples."""

from itertools import combinations

import pytest

from r1mega.algorithm.pass_at_k import ks_for, pass_at_k


@pytest.mark.parametrize("num_samples", [1, 2, 5, 8])
def test_it_is_the_share_of_subsets_with_a_right_sample(num_samples: int):
    for num_right in range(num_samples + 1):
        samples = [index < num_right for index in range(num_samples)]
        for k in range(1, num_samples + 1):
            subsets = list(combinations(samples, k))
            assert pass_at_k(num_samples, num_right, k) == pytest.approx(
                sum(map(any, subsets)) / len(subsets), abs=1e-14), (num_right, k)


def test_thousands_of_samples_neither_overflow_nor_lose_digits():
    # One right sample of n is in a subset of k with probability k / n.
    assert pass_at_k(100_000, 1, 50_000) == pytest.approx(0.5, rel=1e-12)
    assert pass_at_k(10_000, 1, 10) == pytest.approx(1e-3, rel=1e-9)
    # Two of n: 1 - (n-k)(n-k-1) / (n(n-1)).
    assert pass_at_k(4000, 2, 2000) == pytest.approx(1 - 2000 * 1999 / (4000 * 3999), rel=1e-12)


def test_k_of_1_is_the_rate_itself():
    assert [pass_at_k(64, right, 1) for right in (0, 13, 64)] == [0.0, 13 / 64, 1.0]


@pytest.mark.parametrize(("n", "c", "k"), [(4, 5, 1), (4, -1, 1), (4, 2, 0), (4, 2, 5), (0, 0, 1)])
def test_what_cannot_be_is_refused(n: int, c: int, k: int):
    with pytest.raises(ValueError, match="num_right"):
        pass_at_k(n, c, k)


def test_the_reported_k_are_powers_of_two_and_the_number_itself():
    assert ks_for(1) == [1] and ks_for(6) == [1, 2, 4, 6] and ks_for(64) == [1, 2, 4, 8, 16, 32, 64]

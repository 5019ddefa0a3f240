"""One token from logits: right frequencies, exact filters, the same over vocabulary shards."""

import math

import pytest
import torch
import torch.distributed as dist

from r1mega.rollout.sampler import VocabShard, keep_top, sample
from r1mega.rollout.sampling import Sampling
from tests.ranks import run_ranks

LOGITS = torch.tensor([2.0, 0.0, -1.0, 1.0, 0.5, -3.0, 1.5])


def chi_square(counts: torch.Tensor, probs: torch.Tensor) -> float:
    expected = probs.double() * counts.sum()
    return ((counts - expected) ** 2 / expected).sum().item()


def draw(seeds, positions, sampling, logits=LOGITS, vocab_size=7):
    rows = len(seeds)
    return sample(logits.expand(rows, -1), seeds, positions, sampling, VocabShard(0, vocab_size, None))


@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.0])
@pytest.mark.parametrize("axis", ["seeds", "positions"])
def test_tokens_come_as_often_as_the_softmax_says(axis, temperature):
    """Chi-square over 50 000 draws that differ in the seed only, or in the position only: 6 degrees of
    freedom, P(chi-square > 22.5) = 0.001.
    """
    moving, fixed = torch.arange(50_000), torch.full((50_000,), 12345)
    seeds, positions = (moving, fixed) if axis == "seeds" else (fixed, moving)
    tokens, log_probs = draw(seeds, positions, Sampling(temperature=temperature))
    probs = (LOGITS / temperature).softmax(-1)
    assert chi_square(tokens.bincount(minlength=7), probs) < 22.5
    torch.testing.assert_close(log_probs, probs.log()[tokens])


def test_two_tokens_of_one_sequence_are_independent():
    """Pairs at positions 0 and 1 fill the 7 x 7 table as products: P(chi-square with 48 > 84) = 0.001."""
    seeds = torch.arange(50_000)
    first, _ = draw(seeds, torch.zeros_like(seeds), Sampling())
    second, _ = draw(seeds, torch.ones_like(seeds), Sampling())
    probs = LOGITS.softmax(-1)
    assert chi_square((first * 7 + second).bincount(minlength=49), torch.outer(probs, probs).flatten()) < 84


def test_padding_columns_are_neither_sampled_nor_counted():
    logits = torch.cat([LOGITS, torch.tensor([50.0, 60.0])])
    for sampling in (Sampling(), Sampling(temperature=0), Sampling(top_k=3, top_p=0.9)):
        tokens, log_probs = draw(torch.arange(500), torch.zeros(500, dtype=torch.int64), sampling, logits)
        assert tokens.max() < 7
        torch.testing.assert_close(log_probs, LOGITS.log_softmax(-1)[tokens])


def test_temperature_zero_takes_the_likeliest_with_its_log_prob_at_temperature_one():
    tokens, log_probs = draw(torch.arange(9), torch.arange(9), Sampling(temperature=0, top_k=2))
    assert tokens.tolist() == [0] * 9
    torch.testing.assert_close(log_probs, LOGITS.log_softmax(-1)[:1].expand(9))


@pytest.mark.parametrize(
    ("top_k", "top_p", "kept"),
    [
        # Sorted, LOGITS are ids 0 6 3 4 1 2 5 with probabilities .4198 .2546 .1544 .0937 .0568 .0209 .0028.
        (3, 1.0, {0, 6, 3}),
        (0, 0.4, {0}),
        (0, 0.42, {0, 6}),  # .4198 does not reach it
        (0, 0.9, {0, 6, 3, 4}),  # .8288 + .0937 = .9225
        (2, 0.63, {0, 6}),  # of two left: .6225 and .3775
        (2, 0.62, {0}),
        (99, 1.0, {0, 1, 2, 3, 4, 5, 6}),
        (0, 1e-9, {0}),
    ],
)
def test_filters_keep_exactly_these(top_k, top_p, kept):
    scaled = keep_top(LOGITS[None], top_k, top_p)[0]
    assert {index for index, value in enumerate(scaled.tolist()) if value > -math.inf} == kept
    assert all(scaled[index] == LOGITS[index] for index in kept)


def test_filtered_draws_follow_the_renormalised_softmax_but_report_the_full_one():
    """Ids 0, 6, 3 remain: 2 degrees of freedom, P(chi-square > 13.8) = 0.001."""
    seeds = torch.arange(50_000)
    tokens, log_probs = draw(seeds, torch.zeros_like(seeds), Sampling(top_k=3))
    kept = torch.tensor([0, 6, 3])
    counts = tokens.bincount(minlength=7)
    assert counts[kept].sum() == 50_000
    assert chi_square(counts[kept], LOGITS[kept].softmax(-1)) < 13.8
    torch.testing.assert_close(log_probs, LOGITS.log_softmax(-1)[tokens])


CASES = [Sampling(), Sampling(temperature=0.7), Sampling(temperature=0), Sampling(top_k=5, top_p=0.9)]


def full_logits() -> torch.Tensor:
    return torch.randn(64, 16, generator=torch.Generator().manual_seed(0)) * 3


def draw_all(logits: torch.Tensor, start: int, group: dist.ProcessGroup | None) -> list:
    """Vocabularies of 13, where the second shard of 8 columns has some padding, and of 7, where it has
    nothing else.
    """
    shards = [VocabShard(start, vocab_size, group) for vocab_size in (13, 7)]
    drawn = [sample(logits, torch.arange(64), torch.arange(64) % 5, sampling, shard)
             for sampling in CASES for shard in shards]
    return [(tokens.tolist(), log_probs.tolist()) for tokens, log_probs in drawn]


def draw_shards() -> list:
    start = dist.get_rank() * 8
    return draw_all(full_logits()[:, start : start + 8], start, dist.group.WORLD)


def test_vocabulary_shards_draw_what_one_rank_draws():
    first, second = run_ranks(draw_shards, 2, init="gloo")
    assert first == second
    for (tokens, log_probs), expected in zip(first, draw_all(full_logits(), 0, None), strict=True):
        assert tokens == expected[0]
        assert log_probs == pytest.approx(expected[1], abs=1e-5)


@pytest.mark.parametrize("wrong", [{"temperature": -1.0}, {"top_p": 0.0}, {"top_p": 1.1}, {"top_k": -1},
                                   {"max_new_tokens": 0}])
def test_impossible_settings_are_refused_by_name(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        Sampling(**wrong)

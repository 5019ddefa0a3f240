"""Packs: numbers by hand, then properties over random lengths."""

import random

import pytest
import torch

from r1mega.data import packing
from r1mega.data.pack_plan import plan_packs, plan_replicas
from r1mega.data.packing import empty_pack, pack, pack_for_replicas
from r1mega.record import TrainSample

PAD = 99


def sample(first: int, length: int, prompt: int = 1) -> TrainSample:
    """Tokens first, first+1, …; trained on after `prompt` tokens; per-token value token/10; advantage =
    first."""
    ids = tuple(range(first, first + length))
    return TrainSample(ids, tuple(int(t >= prompt) for t in range(length)),
                       {"old_log_probs": tuple(i / 10 for i in ids)}, {"advantage": float(first)})


def test_two_sequences_in_one_pack_by_hand():
    batch, = pack([sample(10, 3, prompt=2), sample(20, 2)], max_tokens=8, multiple_of=4, pad_id=PAD)
    assert batch.token_ids.tolist() == [10, 11, 12, 20, 21, PAD, PAD, PAD]
    assert batch.targets.tolist() == [11, 12, PAD, 21, PAD, PAD, PAD, PAD]
    assert batch.loss_mask.tolist() == [0, 1, 0, 1, 0, 0, 0, 0]
    assert batch.cu_seqlens.tolist() == [0, 3, 5, 8]
    assert batch.sequence_ids.tolist() == [0, 0, 0, 1, 1, -1, -1, -1]
    assert batch.num_sequences == 2
    torch.testing.assert_close(batch.per_token["old_log_probs"],
                               torch.tensor([1.1, 1.2, 0, 2.1, 0, 0, 0, 0]))
    assert batch.per_sample["advantage"].tolist() == [10, 20]
    assert (batch.token_ids.dtype, batch.cu_seqlens.dtype, batch.loss_mask.dtype) == (
        torch.int64, torch.int32, torch.float32)


def test_a_pack_that_comes_out_even_has_no_padding_segment():
    batch, = pack([sample(10, 4)], max_tokens=4, multiple_of=4, pad_id=PAD)
    assert batch.cu_seqlens.tolist() == [0, 4] and batch.sequence_ids.tolist() == [0] * 4


def test_best_fit_decreasing_by_hand():
    """Limit 10. 7 | 6 | 4 fits best beside 6 | 3 fits best beside 7 | 2 opens the third: (7,3) (6,4) (2)."""
    assert plan_packs([2, 3, 7, 4, 6], 10) == [[0], [1, 2], [3, 4]]
    assert plan_packs([2, 7, 8], 10) == [[0, 2], [1]]  # 2 leaves no gap beside 8, one beside 7


def test_a_sequence_over_the_limit_has_a_pack_of_its_own():
    assert plan_packs([25, 3, 4], 10) == [[0], [1, 2]]
    batches = pack([sample(0, 25), sample(50, 3)], max_tokens=10, multiple_of=8, pad_id=PAD)
    assert [batch.token_ids.numel() for batch in batches] == [32, 8]


def test_no_samples_are_no_packs():
    assert pack([], 10, 4, PAD) == []


@pytest.mark.parametrize("seed", range(20))
def test_every_sample_is_in_one_pack_and_no_target_crosses_a_sequence(seed):
    rng = random.Random(seed)
    samples = [
        sample(1000 * k, rng.randint(1, 40), prompt=rng.randint(1, 5)) for k in range(1, rng.randint(2, 60))
    ]
    limit, multiple = rng.choice([32, 64, 100]), rng.choice([1, 2, 8])
    seen = []
    for batch in pack(samples, limit, multiple, PAD):
        ends = batch.cu_seqlens.tolist()
        assert ends[-1] == batch.token_ids.numel() and ends[-1] % multiple == 0
        assert batch.num_sequences == 1 or ends[batch.num_sequences] <= limit
        for s in range(batch.num_sequences):
            begin, end = ends[s], ends[s + 1]
            ids = batch.token_ids[begin:end].tolist()
            original = next(item for item in samples if item.token_ids[0] == ids[0])
            assert tuple(ids) == original.token_ids
            assert batch.targets[begin:end].tolist() == [*ids[1:], PAD]
            assert batch.loss_mask[begin:end].tolist() == [*original.loss_mask[1:], 0]
            assert set(batch.sequence_ids[begin:end].tolist()) == {s}
            assert batch.per_sample["advantage"][s] == ids[0]
            seen.append(ids[0])
        assert batch.loss_mask[ends[batch.num_sequences]:].sum() == 0
    assert sorted(seen) == [item.token_ids[0] for item in samples]


@pytest.mark.parametrize("seed", range(20))
@pytest.mark.parametrize("num_replicas", [1, 2, 3, 8])
def test_replicas_get_as_many_packs_each_and_every_sequence_once(seed, num_replicas):
    rng = random.Random(seed)
    lengths = [rng.randint(1, 50) for _ in range(rng.randint(0, 80))]
    replicas = plan_replicas(lengths, 64, num_replicas)
    assert len(replicas) == num_replicas and len({len(packs) for packs in replicas}) == 1
    assert len(replicas[0]) >= 1
    assert sorted(i for packs in replicas for indices in packs for i in indices) == list(range(len(lengths)))
    assert all(sum(lengths[i] for i in indices) <= 64 for packs in replicas for indices in packs)
    # enough short ones to level with: 10% of the mean
    if len(lengths) >= 2 * num_replicas * len(replicas[0]):
        loads = [sum(lengths[i] for indices in packs for i in indices) for packs in replicas]
        assert max(loads) - min(loads) <= 64
        assert not any(not indices for packs in replicas for indices in packs)


def test_a_replica_builds_its_own_packs_only(monkeypatch):
    """Together the replicas have every sequence once, where the plan put it."""
    samples = [sample(100 * k, 1 + k % 7) for k in range(1, 40)]
    built = []
    build = packing._build
    monkeypatch.setattr(packing, "_build", lambda chosen, *args: built.append(chosen) or build(chosen, *args))
    plan = plan_replicas([len(item.token_ids) for item in samples], 16, 4)
    for replica, planned in enumerate(plan):
        packs = pack_for_replicas(samples, 16, 2, PAD, 4, replica)
        assert built == [[samples[i] for i in indices] for indices in planned]
        assert [batch.per_sample["advantage"].tolist() for batch in packs] == [
            [samples[i].token_ids[0] for i in indices] for indices in planned]
        built.clear()


def test_packs_are_split_before_empty_ones_are_added():
    """Four sequences of 2 fit one pack of 8; two replicas get two each, four one each, eight have four empty
    packs."""
    lengths = [2, 2, 2, 2]
    assert [[len(p) for p in packs] for packs in plan_replicas(lengths, 8, 2)] == [[2], [2]]
    assert [[len(p) for p in packs] for packs in plan_replicas(lengths, 8, 4)] == [[1]] * 4
    assert sorted(len(packs[0]) for packs in plan_replicas(lengths, 8, 8)) == [0] * 4 + [1] * 4


def test_an_empty_pack_trains_on_nothing_and_has_the_same_arrays():
    (full,), (empty,) = (pack_for_replicas([sample(10, 3)], 8, 4, PAD, 2, replica) for replica in range(2))
    assert full.num_sequences == 1 and empty.num_sequences == 0
    assert empty.token_ids.tolist() == [PAD] * 4 and empty.loss_mask.sum() == 0
    assert empty.cu_seqlens.tolist() == [0, 4]
    assert empty.per_token.keys() == full.per_token.keys() and empty.per_sample["advantage"].shape == (0,)
    assert empty_pack(4, PAD).per_token == {}


def test_samples_that_do_not_match_are_refused():
    good = sample(1, 3)
    for bad, word in ((TrainSample((), ()), "no tokens"), (TrainSample((1, 2), (1,)), "as long"),
                      (TrainSample((1, 2), (0, 1)), "arrays")):
        with pytest.raises(ValueError, match=word):
            pack([good, bad], 8, 1, PAD)

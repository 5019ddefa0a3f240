"""The vocabulary split between real ranks. T rows, V columns a rank."""

import math

import pytest
import torch
import torch.distributed as dist
from r1mega_kernels import log_prob, log_prob_reference
from torch import Tensor

from tests.ranks import run_ranks

ROWS, VOCAB = 12, 37


def _problem(padded: int) -> tuple[Tensor, Tensor, Tensor]:
    """Logits [T, padded], some -inf; targets at shard edges, one ignored; upstream gradients [2, T]."""
    generator = torch.Generator().manual_seed(3)
    logits = torch.randn(ROWS, padded, generator=generator) * 4
    logits[torch.rand(ROWS, padded, generator=generator) < 0.1] = float("-inf")
    targets = torch.randint(0, VOCAB, (ROWS,), generator=generator)
    targets[:8] = torch.tensor([0, 9, 10, 19, 20, 29, 36, -100])  # 4 ranks of 10 columns, 2 of 20
    logits[torch.arange(7), targets[:7]] = 1.0
    logits[8, :20] = float("-inf")  # rank 0 of 2 has nothing possible in this row
    return logits, targets, torch.randn(2, ROWS, generator=generator)


def _run(
    logits: Tensor, targets: Tensor, up: Tensor, group: dist.ProcessGroup | None, implementation: str = "reference"
) -> list[Tensor]:
    logits = logits.clone().requires_grad_()
    result = log_prob(
        logits, targets, temperature=0.8, group=group, vocab_size=VOCAB, ignore_index=-100,
        implementation=implementation,
    )
    finite = result.log_probs.isfinite()  # a target may be -inf
    (result.log_probs[finite] * up[0].to(logits.dtype)[finite]).sum().backward(retain_graph=True)
    (result.entropy * up[1].to(logits.dtype)).sum().backward()
    return [result.log_probs.detach(), result.entropy.detach(), logits.grad]


# 37 true columns: 40 leaves 3 of padding at the end; 80 makes whole ranks of nothing but padding
CASES = [
    (40, torch.float64, 1e-12, "reference"),
    (40, torch.float32, 5e-6, "reference"),
    (80, torch.float64, 1e-12, "reference"),
    (40, torch.float32, 5e-6, "triton"),
    (80, torch.float32, 5e-6, "triton"),
]


def _split() -> list[list[Tensor]]:
    from r1mega_kernels import log_prob_triton

    import tests.kernels.interpreter  # noqa: F401

    log_prob_triton.BLOCK_COLUMNS, log_prob_triton.SPLIT_BLOCKS = 8, 1  # 10 columns: 2 splits, the last one not full
    group = dist.new_group()  # not the default group: the argument decides
    results = []
    for padded, dtype, _, implementation in CASES:
        logits, targets, up = _problem(padded)
        columns = padded // dist.get_world_size(group)
        first = dist.get_rank(group) * columns
        results.append(_run(logits.to(dtype)[:, first : first + columns], targets, up, group, implementation))
    return results


@pytest.mark.parametrize("num_ranks", [1, 2, 4])
def test_ranks_agree_with_one_rank(num_ranks: int, monkeypatch: pytest.MonkeyPatch):
    pytest.importorskip("triton")
    monkeypatch.setenv("TRITON_INTERPRET", "1")  # of the ranks, which start afresh
    by_rank = run_ranks(_split, num_ranks, init="gloo")
    for case, (padded, _, bound, _) in enumerate(CASES):
        logits, targets, up = _problem(padded)
        expected = _run(logits.double(), targets, up, None)
        results = [cases[case] for cases in by_rank]
        for result in results:  # every rank has the same bits
            assert torch.equal(result[0], results[0][0]) and torch.equal(result[1], results[0][1])
        together = [results[0][0], results[0][1], torch.cat([result[2] for result in results], dim=1)]
        for ours, exact in zip(together, expected, strict=True):
            torch.testing.assert_close(ours.double(), exact, rtol=0, atol=bound)
        assert (together[2][:, VOCAB:] == 0).all() and (together[2][7] == 0).all()


@pytest.mark.parametrize("padded", [40, 80])
def test_eight_parts_merged_in_their_order_agree_with_the_whole(padded: int):
    logits, targets, _ = _problem(padded)
    columns = padded // 8
    stats = [log_prob_reference._local_stats(part[:, : max(0, VOCAB - rank * columns)], targets - rank * columns, 0.8)
             for rank, part in enumerate(logits.double().chunk(8, dim=1))]
    whole = log_prob_reference._local_stats(logits[:, :VOCAB].double(), targets, 0.8)
    merged = torch.stack(log_prob_reference._merge(stats, 0.8))
    torch.testing.assert_close(merged, whole, rtol=1e-14, atol=1e-12)


def _masked_by_the_lowest_number() -> list[float]:
    """Rank 0 has two tokens of equal logits, rank 1 has 10 that are masked by the lowest fp32 instead of -inf."""
    columns = torch.full((1, 10), torch.finfo(torch.float32).min)
    if dist.get_rank() == 0:
        columns[0, :2] = 2.0
    result = log_prob(columns, torch.tensor([0]), group=dist.group.WORLD, temperature=0.5)
    return [result.log_probs.item(), result.entropy.item()]


def test_a_rank_of_tokens_masked_by_the_lowest_number_adds_nothing():
    for values in run_ranks(_masked_by_the_lowest_number, 2, init="gloo"):
        assert values == pytest.approx([-math.log(2), math.log(2)], rel=1e-6)  # p = 1/2 and 1/2


def _no_rows() -> tuple[int, ...]:
    group = dist.group.WORLD
    logits = torch.zeros(0, 5, requires_grad=True)
    log_prob(logits, torch.zeros(0, dtype=torch.long), group=group).log_probs.sum().backward()
    return tuple(logits.grad.shape)


def test_no_rows_on_two_ranks():
    assert run_ranks(_no_rows, 2, init="gloo") == [(0, 5), (0, 5)]


def _against_megatron() -> list[list[Tensor]]:
    from megatron.core.tensor_parallel import vocab_parallel_cross_entropy

    group = dist.group.WORLD
    generator = torch.Generator().manual_seed(5)
    logits = (torch.randn(50, 64, generator=generator) * 5).chunk(2, dim=1)[dist.get_rank()]
    targets = torch.randint(0, 64, (50,), generator=generator)
    up = torch.randn(50, generator=generator)
    results = []
    for name in ("ours", "megatron"):
        x = logits.clone().requires_grad_()
        if name == "ours":
            values = log_prob(x, targets, group=group).log_probs
        else:
            values = -vocab_parallel_cross_entropy(x[:, None].clone(), targets[:, None], tp_group=group)[:, 0]
        (values * up).sum().backward()
        results.append([values.detach(), x.grad])
    return results


def test_agrees_with_megatrons_vocab_parallel_cross_entropy():
    for ours, megatron in run_ranks(_against_megatron, 2, init="gloo"):
        torch.testing.assert_close(ours[0], megatron[0], rtol=0, atol=5e-6)
        torch.testing.assert_close(ours[1], megatron[1], rtol=0, atol=1e-6)

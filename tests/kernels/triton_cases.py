"""The Triton log_prob against the fp64 reference. T rows, V columns.

Not collected by name: test_log_prob_triton.py runs this file in a process of its own, in Triton's interpreter, or
on a GPU. Blocks are small here, so that a few columns fill many: 8 of them, and 2 blocks to a split.
"""

import math

import pytest
import torch
from r1mega_kernels import LogProb, log_prob, log_prob_triton
from torch import Tensor

import tests.kernels.interpreter  # noqa: F401

DEVICE = "cpu" if log_prob_triton.INTERPRETED else "cuda"
INF = float("inf")
BLOCK = 8


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(log_prob_triton, "BLOCK_COLUMNS", BLOCK)
    monkeypatch.setattr(log_prob_triton, "SPLIT_BLOCKS", 2)


def random_rows(rows: int, columns: int, scale: float = 3.0) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    logits_TV = torch.randn(rows, columns, generator=generator) * scale
    return logits_TV.to(DEVICE), torch.randint(0, columns, (rows,), generator=generator).to(DEVICE)


def both(logits: Tensor, targets: Tensor, up: tuple[float, float] = (1.0, 0.3), **options) -> list:
    """(result, gradient) in Triton, then of the fp64 reference."""
    outcomes = []
    for implementation, dtype in (("triton", logits.dtype), ("reference", torch.float64)):
        x = logits.detach().to(dtype, copy=True).requires_grad_()
        result = log_prob(x, targets, implementation=implementation, **options)
        (up[0] * result.log_probs.sum() + up[1] * result.entropy.sum()).backward()
        outcomes.append((result, x.grad))
    return outcomes


def assert_close(ours: tuple[LogProb, Tensor], exact: tuple[LogProb, Tensor]) -> None:
    """The accuracies of the design: 5e-6, 1e-5, and 1e-6 of the gradient's norm (in 16 bits, 1e-3 of the rounded)."""
    (result, gradient), (exact_result, exact_gradient) = ours, exact
    # two roundings of a number as large as the log-prob itself, 6e-8 each, on top
    torch.testing.assert_close(result.log_probs.double(), exact_result.log_probs, atol=5e-6, rtol=1.2e-7)
    torch.testing.assert_close(result.entropy.double(), exact_result.entropy, atol=1e-5, rtol=0)
    bound = 1e-6 if gradient.dtype == torch.float32 else 1e-3
    error = (gradient.double() - exact_gradient.to(gradient.dtype).double()).norm()
    assert error <= bound * exact_gradient.norm()


@pytest.mark.parametrize(
    ("columns", "temperature"),
    [(1, 1.0), (BLOCK - 1, 2.0), (BLOCK, 0.3), (BLOCK + 1, 1.0), (2 * BLOCK - 1, 0.3), (2 * BLOCK + 1, 2.0),
     (61, 0.3), (61, 1.0), (61, 2.0)],
)
def test_equals_the_fp64_reference_at_the_edges_of_blocks_and_splits(columns: int, temperature: float):
    assert_close(*both(*random_rows(3, columns), temperature=temperature))


@pytest.mark.parametrize(  # real blocks: 2048 columns, 16384 a split
    ("columns", "dtype"),
    [(2047, torch.float32), (2049, torch.bfloat16), (16160, torch.float16), (50257, torch.float32),
     (129280, torch.bfloat16), (151936, torch.bfloat16)],
)
def test_equals_the_fp64_reference_at_real_sizes(columns: int, dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(log_prob_triton, "BLOCK_COLUMNS", 2048)
    monkeypatch.setattr(log_prob_triton, "SPLIT_BLOCKS", 8)
    logits_TV, targets_T = random_rows(2, columns)
    assert_close(*both(logits_TV.to(dtype), targets_T, temperature=0.7))


def test_padded_columns_have_no_probability_and_no_gradient_whatever_is_in_them():
    logits_TV, targets_T = random_rows(3, 19)
    junk_T5 = torch.tensor([1e9, math.nan, INF, -INF, 0], device=DEVICE).expand(3, 5)
    plain, _ = both(logits_TV, targets_T)
    padded, _ = both(torch.cat([logits_TV, junk_T5], dim=1), targets_T, vocab_size=19)
    assert torch.equal(plain[0].log_probs, padded[0].log_probs) and torch.equal(plain[0].entropy, padded[0].entropy)
    assert torch.equal(padded[1][:, :19], plain[1]) and (padded[1][:, 19:] == 0).all()


@pytest.mark.parametrize("inplace", [False, True])
def test_ignored_rows_are_exactly_zero_even_where_logits_and_upstream_are_nan(inplace: bool):
    logits_TV, targets_T = random_rows(4, 21)
    logits_TV[1] = math.nan
    targets_T[[1, 3]] = -100
    x = logits_TV.clone().requires_grad_()
    result = log_prob(x, targets_T, ignore_index=-100, implementation="triton", inplace_backward=inplace)
    up_T = torch.tensor([1, math.nan, 1, 1], device=DEVICE)
    torch.autograd.backward([*result], [up_T, up_T])
    assert (torch.stack([*result])[:, [1, 3]] == 0).all() and (torch.stack([*result])[:, [0, 2]] != 0).all()
    assert (x.grad[[1, 3]] == 0).all() and (x.grad[[0, 2]] != 0).all()
    assert (x.data_ptr() == x.grad.data_ptr()) == inplace


def test_a_row_without_upstream_gradient_has_none_even_when_it_is_nan():
    logits_TV, targets_T = random_rows(2, 9)
    logits_TV[1] = math.nan
    logits_TV.requires_grad_()
    log_prob(logits_TV, targets_T, implementation="triton").log_probs[0].backward()
    assert (logits_TV.grad[1] == 0).all() and (logits_TV.grad[0] != 0).all()


@pytest.mark.parametrize("lowest", [-INF, torch.finfo(torch.float32).min, torch.finfo(torch.bfloat16).min])
def test_impossible_tokens_in_whole_blocks_and_splits(lowest: float):
    # p = 1/2 at columns 20 and 40, which lie in different splits of 16; the first split has nothing possible
    logits_TV = torch.full((2, 45), lowest, device=DEVICE)
    logits_TV[:, [20, 40]] = 2.0
    targets_T = torch.tensor([40, 3], device=DEVICE)
    x = logits_TV.clone().requires_grad_()
    result = log_prob(x, targets_T, implementation="triton", temperature=0.5)
    assert result.log_probs[0].item() == pytest.approx(-math.log(2), rel=1e-6)
    assert result.log_probs[1].item() < -1e38
    assert result.entropy.tolist() == pytest.approx([math.log(2)] * 2, rel=1e-6)
    (result.log_probs[0] + result.entropy.sum()).backward()
    expected_TV = torch.zeros(2, 45, device=DEVICE)
    expected_TV[0, 40], expected_TV[0, 20] = 1.0, -1.0  # (1 - 1/2) / 0.5 and -1/2 / 0.5; the entropy is at its top
    torch.testing.assert_close(x.grad, expected_TV, rtol=0, atol=1e-6)


@pytest.mark.parametrize("offset", [-1e4, 1e4])
def test_a_large_offset_common_to_a_row_costs_no_accuracy(offset: float):
    logits_TV, targets_T = random_rows(3, 30)
    assert_close(*both(logits_TV + offset, targets_T, temperature=0.3))


@pytest.mark.parametrize("implementation", ["reference", "triton"])
def test_one_row_of_very_negative_logits_is_uniform_and_one_of_impossible_tokens_is_nan(implementation: str):
    for lowest in (-1e30, torch.finfo(torch.float32).min):
        x = torch.full((1, 45), lowest, device=DEVICE, requires_grad=True)
        result = log_prob(x, torch.tensor([44], device=DEVICE), temperature=0.3, implementation=implementation)
        (result.log_probs + result.entropy).sum().backward()
        assert torch.cat([*result]).tolist() == pytest.approx([-math.log(45), math.log(45)], rel=1e-6)
        expected = (torch.arange(45, device=DEVICE) == 44).float() - 1 / 45
        torch.testing.assert_close(x.grad[0], expected / 0.3, rtol=1e-5, atol=1e-6)
    logits_TV, targets_T = random_rows(3, 45)
    logits_TV[1] = -INF
    result = log_prob(logits_TV, targets_T, implementation=implementation)
    assert result.log_probs.isnan().tolist() == result.entropy.isnan().tolist() == [False, True, False]


@pytest.mark.parametrize("bad", [math.nan, INF])
@pytest.mark.parametrize("column", [5, 29])
def test_nan_and_inf_stay_in_their_own_row(bad: float, column: int):
    logits_TV, targets_T = random_rows(3, 30)
    spoiled_TV = logits_TV.clone()
    spoiled_TV[1, column] = bad
    (expected, expected_grad), (result, grad) = both(logits_TV, targets_T)[0], both(spoiled_TV, targets_T)[0]
    for ours, good in zip((*result, grad), (*expected, expected_grad), strict=True):
        assert torch.equal(ours[[0, 2]], good[[0, 2]]) and ours[1].isnan().any()


def test_a_target_outside_the_vocabulary_is_nan_in_its_own_row():
    result = log_prob(random_rows(3, 9)[0], torch.tensor([8, 7, -1], device=DEVICE), vocab_size=8,
                      implementation="triton")
    assert result.log_probs.isnan().tolist() == [True, False, True] and result.entropy.isfinite().all()


def test_log_probs_are_never_above_0_nor_entropies_below():
    logits_TV, targets_T = random_rows(40, 20, scale=40)
    targets_T[:20] = logits_TV[:20].argmax(dim=-1)
    result = log_prob(logits_TV, targets_T, implementation="triton")
    assert (result.log_probs <= 0).all() and (result.entropy >= 0).all()


def test_all_rows_ignored_and_no_rows_at_all():
    x = random_rows(3, 20)[0].requires_grad_()
    ignored_T = torch.full((3,), -100, device=DEVICE)
    log_prob(x, ignored_T, ignore_index=-100, implementation="triton").log_probs.sum().backward()
    assert (x.grad == 0).all()
    empty_TV = torch.zeros(0, 20, device=DEVICE, requires_grad=True)
    result = log_prob(empty_TV, ignored_T[:0], implementation="triton")
    (result.log_probs.sum() + result.entropy.sum()).backward()
    assert result.log_probs.shape == (0,) and empty_TV.grad.shape == (0, 20)


def test_a_row_gives_the_same_bits_on_any_number_of_rows_at_any_place():
    logits_TV, targets_T = random_rows(6, 45)

    def bits(rows: Tensor) -> list[Tensor]:
        (result, gradient), _ = both(logits_TV[rows], targets_T[rows], temperature=0.9)
        return [*result, gradient]

    everything = bits(torch.arange(6))
    order = torch.randperm(6, generator=torch.Generator().manual_seed(1))
    for rows in (order, *order.split([1, 2, 3])):
        for all_rows, some_rows in zip(everything, bits(rows), strict=True):
            assert torch.equal(all_rows[rows], some_rows)


@pytest.mark.parametrize("layout", ["sliced", "misaligned", "transposed", "batched"])
def test_strides_and_alignment_do_not_matter(layout: str):
    wide = torch.randn(6, 40, device=DEVICE)
    logits = {
        "sliced": wide[::2, 3:22],
        "misaligned": wide.flatten()[1:].unfold(0, 19, 20)[:4],
        "transposed": wide.T[:19],
        "batched": wide.view(2, 3, 40).transpose(0, 1)[:, :, 3:22],
    }[layout]
    targets = torch.arange(logits[..., 0].numel(), dtype=torch.int32, device=DEVICE).view(logits.shape[:-1]) % 6
    outcomes = []
    for x in (logits.detach(), logits.detach().contiguous()):
        x.requires_grad_()
        result = log_prob(x, targets, implementation="triton")
        torch.autograd.backward([*result], [torch.ones((), device=DEVICE).expand(targets.shape)] * 2)
        outcomes.append([*result, x.grad])
    for strided, plain in zip(*outcomes, strict=True):
        assert torch.equal(strided, plain)
    assert_close(*both(logits, targets))


@pytest.mark.parametrize("up", [(1.0, 0.0), (0.0, 1.0)])
def test_only_one_of_the_two_outputs_may_be_used(up: tuple[float, float]):
    logits_TV, targets_T = random_rows(3, 30)
    name = "log_probs" if up[0] else "entropy"
    x = logits_TV.clone().requires_grad_()
    getattr(log_prob(x, targets_T, implementation="triton"), name).sum().backward()
    exact = both(logits_TV, targets_T, up=up)[1][1]
    assert (x.grad.double() - exact).norm() <= 1e-6 * exact.norm()


def test_fp64_is_the_references():
    with pytest.raises(ValueError, match="fp64"):
        log_prob(torch.zeros(2, 3, dtype=torch.float64, device=DEVICE), torch.zeros(2, dtype=torch.long, device=DEVICE),
                 implementation="triton")


@pytest.mark.parametrize("implementation", ["reference", "triton"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_in_place_gives_the_same_gradient_in_the_memory_of_the_logits(implementation: str, dtype: torch.dtype):
    logits_TV, targets_T = random_rows(5, 35)
    gradients = []
    for inplace in (False, True):
        leaf = logits_TV.to(dtype).requires_grad_()
        z = leaf * 1.0  # what a head's matrix product would give
        z.register_hook(gradients.append)
        result = log_prob(z, targets_T, vocab_size=30, implementation=implementation, inplace_backward=inplace)
        (result.log_probs.sum() + 0.2 * result.entropy.sum()).backward(retain_graph=True)
        assert (gradients[-1].data_ptr() == z.data_ptr()) == inplace
    assert torch.equal(gradients[0], gradients[1])
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):  # once is all there is
        result.log_probs.sum().backward()


@pytest.mark.parametrize("implementation", ["reference", "triton"])
def test_in_place_never_spoils_another_gradient_in_silence(implementation: str):
    logits_TV, targets_T = random_rows(2, 9)
    z = logits_TV.requires_grad_() * 1.0
    squares = z.square().sum()  # its gradient needs z, and comes after ours
    result = log_prob(z, targets_T, implementation=implementation, inplace_backward=True)
    result.log_probs.sum().backward(retain_graph=True)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        squares.backward()


@pytest.mark.parametrize(("shards", "padded"), [(2, 104), (8, 104), (8, 240)])  # with 240, four hold padding only
def test_shards_merged_in_their_order_agree_with_the_whole(shards: int, padded: int):
    """What ranks do, without them: each has the statistics of its own columns, and the gradient of these."""
    logits_TV = random_rows(6, padded)[0]
    targets_T = torch.tensor([0, 12, 13, 51, 60, 95], device=DEVICE)  # edges of shards
    partials, spans = [], [(first, max(0, min(padded // shards, 96 - first)))
                           for first in range(0, padded, padded // shards)]
    for columns_TV, (first, true_columns) in zip(logits_TV.chunk(shards, dim=1), spans, strict=True):
        part_PT4 = log_prob_triton.local_stats(columns_TV, targets_T, 0.7, first, true_columns)
        partials.append(log_prob_triton.merge(part_PT4, 0.7))
    log_probs_T, entropy_T, saved_T4 = log_prob_triton.finish(torch.cat(partials), targets_T, 0.7, 96, None)
    gradient_TV = torch.empty_like(logits_TV)
    up = torch.ones(6, device=DEVICE), torch.full((6,), 0.3, device=DEVICE)
    for out_TV, columns_TV, span in zip(
        gradient_TV.chunk(shards, dim=1), logits_TV.chunk(shards, dim=1), spans, strict=True
    ):
        log_prob_triton.write_gradient(out_TV, columns_TV, targets_T, saved_T4, up, 0.7, span)
    _, exact = both(logits_TV, targets_T, temperature=0.7, vocab_size=96)
    assert_close((LogProb(log_probs_T, entropy_T), gradient_TV), exact)
    assert (gradient_TV[:, 96:] == 0).all()


FACTORS = (1.0, 0.5, -3.0, 1.0, 0.0, 1.0, 1.0, 2.0)


@pytest.mark.parametrize("rows", [0, 1, 3, 4, 50, 101])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_rows_are_scaled_whatever_their_number(rows: int, dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(log_prob_triton, "SCALE_PROGRAMS", 3)  # 4 rows a program at a time: 12 of them in a round
    monkeypatch.setattr(log_prob_triton, "SCALE_ROWS", 4)
    gradient_TV = torch.randn(rows, 21, device=DEVICE).to(dtype)
    factors_T = torch.tensor(FACTORS * 13, device=DEVICE)[:rows]
    expected_TV = (gradient_TV.double() * factors_T[:, None]).to(dtype)
    log_prob_triton.scale_rows(gradient_TV, factors_T)
    torch.testing.assert_close(gradient_TV, expected_TV, rtol=0, atol=0)


@pytest.mark.parametrize("programs", [1, 3])  # one has all three rows to look at, or each has one
def test_a_row_whose_factor_is_1_is_not_touched(programs: int, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(log_prob_triton, "SCALE_PROGRAMS", programs)
    # Any arithmetic turns a signalling NaN into a quiet one: another bit.
    gradient_TV = torch.full((3, 21), 0x7F800001, dtype=torch.int32, device=DEVICE).view(torch.float32)
    log_prob_triton.scale_rows(gradient_TV, torch.tensor([1.0, 2.0, 1.0], device=DEVICE))
    untouched = gradient_TV.view(torch.int32) == 0x7F800001
    assert untouched.all(dim=1).tolist() == [True, False, True] and not untouched[1].any()


def test_strided_rows_are_scaled_by_an_expanded_factor_and_nothing_beside_them():
    wide = torch.randn(6, 40, device=DEVICE)
    before = wide.clone()
    log_prob_triton.scale_rows(wide[1::2, 3:22], torch.tensor(2.0, device=DEVICE).expand(3))
    before[1::2, 3:22] *= 2
    assert torch.equal(wide, before)

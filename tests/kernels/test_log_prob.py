"""One rank, plain PyTorch. T rows, V columns."""

import math

import pytest
import torch
import torch.nn.functional as F
from r1mega_kernels import log_prob, log_prob_reference
from torch import Tensor


def slow_log_prob(row: list[float], target: int, temperature: float) -> tuple[float, float]:
    """log p and H of one row, as the textbook writes them, in Python floats."""
    top = max(row)
    weights = [math.exp((x - top) / temperature) for x in row]
    total = math.fsum(weights)
    probs = [w / total for w in weights]
    entropy = -math.fsum(p * math.log(p) for p in probs if p > 0)
    log_p = (row[target] - top) / temperature - math.log(total) if row[target] > -math.inf else -math.inf
    return log_p, entropy


def random_rows(rows: int, columns: int, seed: int = 0, scale: float = 3.0) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    logits_TV = torch.randn(rows, columns, generator=generator) * scale
    return logits_TV, torch.randint(0, columns, (rows,), generator=generator)


def test_hand_worked_row():
    # softmax of (log 1, log 2, log 5) is (1/8, 2/8, 5/8)
    logits = torch.tensor([[math.log(1), math.log(2), math.log(5)]])
    log_probs, entropy = log_prob(logits, torch.tensor([1]))
    assert log_probs.item() == pytest.approx(math.log(2 / 8), abs=1e-6)
    expected = -(1 / 8 * math.log(1 / 8) + 2 / 8 * math.log(2 / 8) + 5 / 8 * math.log(5 / 8))  # 0.9003
    assert entropy.item() == pytest.approx(expected, abs=1e-6)


def test_uniform_row_has_entropy_log_v_and_is_exact():
    log_probs, entropy = log_prob(torch.full((1, 8), -123.0), torch.tensor([3]))
    assert log_probs.item() == pytest.approx(-math.log(8), rel=1e-7)
    assert entropy.item() == pytest.approx(math.log(8), rel=1e-7)


@pytest.mark.parametrize("temperature", [0.3, 1.0, 2.0])
@pytest.mark.parametrize("columns", [1, 2, 5, 257, 1000])
def test_equals_the_slow_reference(columns: int, temperature: float):
    logits_TV, targets_T = random_rows(7, columns)
    result = log_prob(logits_TV, targets_T, temperature=temperature)
    for t, (row, target) in enumerate(zip(logits_TV.tolist(), targets_T.tolist(), strict=True)):
        log_p, entropy = slow_log_prob(row, target, temperature)
        # two roundings of a number as large as the log-prob itself, 6e-8 each, on top
        assert result.log_probs[t].item() == pytest.approx(log_p, abs=5e-6 + 1.2e-7 * abs(log_p))
        assert result.entropy[t].item() == pytest.approx(entropy, abs=1e-5)


def test_in_fp64_equals_cross_entropy_and_categorical_with_their_gradients():
    logits_TV, targets_T = random_rows(9, 33)
    ours, theirs = (logits_TV.double().requires_grad_() for _ in range(2))
    up_T = torch.linspace(-2, 3, 9, dtype=torch.float64)
    result = log_prob(ours, targets_T)
    nll_T = F.cross_entropy(theirs, targets_T, reduction="none")
    entropy_T = torch.distributions.Categorical(logits=theirs).entropy()
    torch.testing.assert_close(result.log_probs, -nll_T, rtol=0, atol=1e-13)
    torch.testing.assert_close(result.entropy, entropy_T, rtol=0, atol=1e-13)
    (result.log_probs * up_T + result.entropy * up_T.square()).sum().backward()
    (-nll_T * up_T + entropy_T * up_T.square()).sum().backward()
    torch.testing.assert_close(ours.grad, theirs.grad, rtol=0, atol=1e-13)


@pytest.mark.parametrize("temperature", [0.3, 1.0, 2.0])
def test_gradcheck_of_both_outputs_with_padding_and_ignored_rows(temperature: float):
    logits_TV = random_rows(5, 7)[0].double().requires_grad_()
    targets_T = torch.tensor([0, 4, -100, 3, 1])
    assert torch.autograd.gradcheck(
        lambda x: log_prob(x, targets_T, temperature=temperature, vocab_size=5, ignore_index=-100), logits_TV
    )


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_at_most_twice_the_error_of_pytorch_in_the_same_type(dtype: torch.dtype):
    logits_TV, targets_T = random_rows(64, 4099, scale=5)
    logits_TV = logits_TV.to(dtype)
    exact = log_prob(logits_TV.double(), targets_T)
    ours = log_prob(logits_TV, targets_T)
    theirs_TV = torch.log_softmax(logits_TV.float(), dim=-1)  # fp32, as bf16 would be no contest
    theirs_T = theirs_TV.gather(1, targets_T[:, None])[:, 0]
    theirs_entropy_T = -(theirs_TV.exp() * theirs_TV).sum(dim=-1)
    floor = 2e-6  # an fp32 rounding of numbers around 16
    assert _error(ours.log_probs, exact.log_probs) <= 2 * _error(theirs_T, exact.log_probs) + floor
    assert _error(ours.entropy, exact.entropy) <= 2 * _error(theirs_entropy_T, exact.entropy) + floor
    assert _error(ours.log_probs, exact.log_probs) <= 5e-6
    assert _error(ours.entropy, exact.entropy) <= 1e-5


def _error(values: Tensor, exact: Tensor) -> float:
    return (values.double() - exact).abs().max().item()


@pytest.mark.parametrize(("dtype", "bound"), [(torch.float32, 1e-6), (torch.bfloat16, 4e-3)])
def test_gradient_error_against_fp64(dtype: torch.dtype, bound: float):
    # bf16 keeps 8 bits: rounding the result alone costs up to 2^-9 = 2e-3 of each entry
    logits_TV, targets_T = random_rows(32, 1031)
    logits_TV = logits_TV.to(dtype)
    grads = []
    for x in (logits_TV.detach().clone(), logits_TV.double()):
        result = log_prob(x.requires_grad_(), targets_T, temperature=0.7)
        (result.log_probs.sum() + 0.1 * result.entropy.sum()).backward()
        grads.append(x.grad.double())
    assert (grads[0] - grads[1]).norm() / grads[1].norm() <= bound


def test_log_probs_are_never_above_0_nor_entropies_below():
    logits_TV, targets_T = random_rows(500, 50, scale=40)
    targets_T[:250] = logits_TV[:250].argmax(dim=-1)
    result = log_prob(logits_TV, targets_T)
    assert (result.log_probs <= 0).all() and (result.entropy >= 0).all()


def test_padded_columns_have_no_probability_and_no_gradient_whatever_is_in_them():
    logits_TV, targets_T = random_rows(6, 11)
    padded_TV = torch.cat([logits_TV, torch.tensor([1e9, float("nan"), float("inf")]).expand(6, 3)], dim=1)
    plain, padded = logits_TV.requires_grad_(), padded_TV.detach().requires_grad_()
    first, second = log_prob(plain, targets_T), log_prob(padded, targets_T, vocab_size=11)
    assert torch.equal(first.log_probs, second.log_probs) and torch.equal(first.entropy, second.entropy)
    (first.log_probs.sum() + first.entropy.sum()).backward()
    (second.log_probs.sum() + second.entropy.sum()).backward()
    assert torch.equal(padded.grad[:, :11], plain.grad)
    assert (padded.grad[:, 11:] == 0).all()


def test_minus_infinity_is_an_impossible_token():
    # two tokens left, of equal logits: p = 1/2 each, H = log 2; gradient of log p is (1 - 1/2, -1/2)
    inf = float("inf")
    logits_TV = torch.tensor([[-inf, 2.0, -inf, 2.0]] * 2, requires_grad=True)
    result = log_prob(logits_TV, torch.tensor([1, 0]))
    assert result.log_probs[0].item() == pytest.approx(-math.log(2), rel=1e-6)
    assert result.log_probs[1].item() == -inf
    assert result.entropy.tolist() == pytest.approx([math.log(2)] * 2, rel=1e-6)
    (result.log_probs[0] + result.entropy.sum()).backward()
    expected_TV = torch.tensor([[0, 0.5, 0, -0.5], [0, 0, 0, 0]])
    torch.testing.assert_close(logits_TV.grad, expected_TV, rtol=0, atol=1e-7)


@pytest.mark.parametrize("temperature", [0.3, 1.0])
@pytest.mark.parametrize("offset", [-1e4, 1e4])
def test_a_large_offset_common_to_a_row_costs_no_accuracy(offset: float, temperature: float):
    # fp32 holds numbers around 1e4 to 1e-3 (spacing 2^-10): compare against fp64 of the rounded logits
    logits_TV, targets_T = random_rows(5, 20)
    logits_TV = logits_TV + offset
    result = log_prob(logits_TV, targets_T, temperature=temperature)
    exact = log_prob(logits_TV.double(), targets_T, temperature=temperature)
    assert _error(result.log_probs, exact.log_probs) <= 5e-6
    assert _error(result.entropy, exact.entropy) <= 1e-5


def test_extreme_spread_gives_certainty_without_overflow():
    logits_TV = torch.tensor([[1e4, -1e4, 0.0]], requires_grad=True)
    result = log_prob(logits_TV, torch.tensor([1]))
    assert result.log_probs.item() == -2e4 and result.entropy.item() == 0
    (result.log_probs + result.entropy).sum().backward()
    assert logits_TV.grad.tolist() == [[-1.0, 1.0, 0.0]]  # delta - p, p = (1, 0, 0)


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_nan_and_inf_stay_in_their_own_row(bad: float):
    logits_TV, targets_T = random_rows(4, 9)
    spoiled_TV = logits_TV.clone()
    spoiled_TV[2, 5] = bad
    good, spoiled = logits_TV.requires_grad_(), spoiled_TV.requires_grad_()
    expected, result = log_prob(good, targets_T), log_prob(spoiled, targets_T)
    (expected.log_probs + expected.entropy).sum().backward()
    (result.log_probs + result.entropy).sum().backward()
    others = [0, 1, 3]
    assert torch.equal(result.log_probs[others], expected.log_probs[others])
    assert torch.equal(result.entropy[others], expected.entropy[others])
    assert torch.equal(spoiled.grad[others], good.grad[others])
    assert result.log_probs[2].isnan() and result.entropy[2].isnan() and spoiled.grad[2].isnan().any()


def test_a_target_outside_the_vocabulary_is_nan_in_its_own_row():
    logits_TV, _ = random_rows(3, 9)
    result = log_prob(logits_TV, torch.tensor([8, 7, -1]), vocab_size=8)
    assert result.log_probs.isnan().tolist() == [True, False, True]


def test_ignored_rows_are_exactly_zero_in_result_and_gradient_even_when_they_are_nan():
    logits_TV, targets_T = random_rows(4, 9)
    logits_TV[1] = float("nan")
    targets_T[:] = torch.tensor([3, -100, 5, -100])
    logits_TV.requires_grad_()
    result = log_prob(logits_TV, targets_T, ignore_index=-100)
    (result.log_probs + result.entropy).sum().backward()
    assert result.log_probs[[1, 3]].tolist() == [0, 0] and result.entropy[[1, 3]].tolist() == [0, 0]
    assert (logits_TV.grad[[1, 3]] == 0).all() and (logits_TV.grad[[0, 2]] != 0).all()


def test_a_row_without_upstream_gradient_has_none_even_when_it_is_nan():
    logits_TV, targets_T = random_rows(2, 9)
    logits_TV[1] = float("nan")
    logits_TV.requires_grad_()
    log_prob(logits_TV, targets_T).log_probs[0].backward()
    assert (logits_TV.grad[1] == 0).all() and (logits_TV.grad[0] != 0).all()


def test_all_rows_ignored_and_no_rows_at_all():
    logits_TV = torch.randn(3, 5, requires_grad=True)
    log_prob(logits_TV, torch.full((3,), -100), ignore_index=-100).log_probs.sum().backward()
    assert (logits_TV.grad == 0).all()
    empty_TV = torch.randn(0, 5, requires_grad=True)
    result = log_prob(empty_TV, torch.zeros(0, dtype=torch.long))
    (result.log_probs.sum() + result.entropy.sum()).backward()
    assert result.log_probs.shape == result.entropy.shape == (0,) and empty_TV.grad.shape == (0, 5)


@pytest.mark.parametrize(("count", "columns"), [(301, 17), (301, 1000), (12, 70001)])
def test_a_row_gives_the_same_bits_on_any_number_of_rows_at_any_place(count: int, columns: int):
    # torch.sum cuts one long row between threads: another order of additions than for the row among others
    logits_TV, targets_T = random_rows(count, columns)

    def bits(rows: Tensor) -> list[Tensor]:
        x = logits_TV[rows].clone().requires_grad_()
        result = log_prob(x, targets_T[rows], temperature=0.9)
        (result.log_probs + 0.3 * result.entropy).sum().backward()
        return [result.log_probs.detach(), result.entropy.detach(), x.grad]

    everything = bits(torch.arange(count))
    order = torch.randperm(count, generator=torch.Generator().manual_seed(1))
    for rows in (order, *order.split([1, 2, 3, count - 6])):
        for all_rows, some_rows in zip(everything, bits(rows), strict=True):
            assert torch.equal(all_rows[rows], some_rows)


def test_strided_sliced_and_batched_logits_and_an_expanded_upstream_gradient():
    wide = torch.randn(4, 6, 20)
    targets = torch.randint(0, 9, (6, 4))
    strided = wide.transpose(0, 1)[:, :, 3:12].requires_grad_()  # [6, 4, 9], not contiguous
    plain = strided.detach().contiguous().requires_grad_()
    results = [log_prob(x, targets) for x in (strided, plain)]
    assert torch.equal(results[0].log_probs, results[1].log_probs) and results[0].log_probs.shape == (6, 4)
    for result in results:
        torch.autograd.backward([*result], [torch.ones(()).expand(6, 4)] * 2)
    assert torch.equal(strided.grad, plain.grad)


def test_chunks_of_rows_leave_no_seam(monkeypatch: pytest.MonkeyPatch):
    logits_TV, targets_T = random_rows(10, 13)
    whole = logits_TV.clone().requires_grad_()
    log_prob(whole, targets_T).log_probs.sum().backward()
    monkeypatch.setattr(log_prob_reference, "CHUNK_ELEMENTS", 40)  # 3 rows at a time
    cut = logits_TV.clone().requires_grad_()
    log_prob(cut, targets_T).log_probs.sum().backward()
    assert torch.equal(whole.grad, cut.grad)


def test_only_one_of_the_two_outputs_may_be_used():
    logits_TV, targets_T = random_rows(3, 6)
    for name in ("log_probs", "entropy"):
        ours, theirs = (logits_TV.double().requires_grad_() for _ in range(2))
        getattr(log_prob(ours, targets_T), name).sum().backward()
        if name == "log_probs":
            (-F.cross_entropy(theirs, targets_T, reduction="sum")).backward()
        else:
            torch.distributions.Categorical(logits=theirs).entropy().sum().backward()
        torch.testing.assert_close(ours.grad, theirs.grad, rtol=0, atol=1e-13)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"temperature": 0.0}, "temperature=0.0"),
        ({"temperature": float("nan")}, "temperature=nan"),
        ({"vocab_size": 6}, "vocab_size=6"),
        ({"targets": torch.zeros(4, dtype=torch.long)}, r"\[3, 5\]"),
        ({"targets": torch.zeros(3)}, "float32"),
    ],
)
def test_arguments_that_do_not_fit_are_refused(change: dict, message: str):
    arguments = {"targets": torch.zeros(3, dtype=torch.long)} | change
    with pytest.raises(ValueError, match=message):
        log_prob(torch.zeros(3, 5), **arguments)

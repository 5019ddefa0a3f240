"""Losses fused with the head in Triton, against the fp64 reference: the problems of test_linear.py.

Not collected by name: test_log_prob_triton.py runs this file in a process of its own, in Triton's interpreter, or on
a GPU. T tokens, V vocabulary, H hidden.
"""

import pytest
import torch
from r1mega_kernels import (
    CrossEntropy,
    Grpo,
    GrpoOptions,
    GrpoTokens,
    LinearOptions,
    TokenLoss,
    grpo_triton,
    linear_log_prob,
    linear_loss,
    log_prob_triton,
    logits_loss,
)
from torch import Tensor

import tests.kernels.interpreter  # noqa: F401
from tests.kernels.test_linear import A_ROW, T, V, naive, problem, some_tokens, upstream

DEVICE = "cpu" if log_prob_triton.INTERPRETED else "cuda"
BUDGETS = [1, 6 * A_ROW, 1 << 30]


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(log_prob_triton, "BLOCK_COLUMNS", 8)
    monkeypatch.setattr(log_prob_triton, "SPLIT_BLOCKS", 2)
    monkeypatch.setattr(grpo_triton, "BLOCK_TOKENS", 8)
    monkeypatch.setattr(grpo_triton, "BLOCK_SEQUENCE", 4)


def options_of(implementation: str, **more) -> LinearOptions:
    return LinearOptions(temperature=0.7, ignore_index=-100, implementation=implementation, **more)


def problem_on(device: str, dtype: torch.dtype) -> tuple[Tensor, Tensor, Tensor]:
    hidden_TH, weight_VH, targets_T = problem(dtype)
    return (*(x.detach().to(device).requires_grad_() for x in (hidden_TH, weight_VH)), targets_T.to(device))


def loss_of(name: str, implementation: str, device: str) -> TokenLoss:
    tokens = GrpoTokens(*(values.to(device) for values in some_tokens()))
    if name == "cross_entropy":
        return CrossEntropy(tokens.weights_T)
    options = GrpoOptions(clip_low=0.1, kl_coef=0.1, entropy_coef=0.05, dual_clip=3.0, ratio=name)
    return Grpo(tokens, options, implementation)


def exact_outcome(name: str) -> list[Tensor]:
    """Loss, log-probs, entropies, records and the gradients of hidden states and weight: fp64, on a CPU."""
    hidden_TH, weight_VH, targets_T = problem(torch.float64)
    tokens = linear_loss(hidden_TH, weight_VH, targets_T, loss_of(name, "reference", "cpu"), options_of("reference"))
    tokens.loss.sum().backward()
    return [tokens.loss.detach(), tokens.log_probs, tokens.entropy, *tokens.records.values(), hidden_TH.grad,
            weight_VH.grad]


def assert_all_close(ours: list[Tensor], exact: list[Tensor]) -> None:
    for value, expected in zip(ours, exact, strict=True):
        torch.testing.assert_close(value.double().cpu(), expected, rtol=2e-5, atol=2e-5)


@pytest.mark.parametrize("max_logits_bytes", BUDGETS)
def test_log_probs_and_gradients_are_those_of_log_softmax_whatever_the_budget(max_logits_bytes: int):
    hidden_TH, weight_VH, targets_T = problem_on(DEVICE, torch.float32)
    result = linear_log_prob(hidden_TH, weight_VH, targets_T, options_of("triton", max_logits_bytes=max_logits_bytes))
    c_T, e_T = (values.to(DEVICE) for values in upstream())
    ((c_T * result.log_probs).sum() + (e_T * result.entropy).sum()).backward()
    assert_all_close([result.log_probs.detach(), result.entropy.detach(), hidden_TH.grad, weight_VH.grad], naive())
    assert (result.log_probs[::4] == 0).all() and (hidden_TH.grad[::4] == 0).all()


@pytest.mark.parametrize("name", ["cross_entropy", "token", "sequence"])
@pytest.mark.parametrize("max_logits_bytes", BUDGETS)
def test_a_loss_from_hidden_states_is_the_fp64_references(name: str, max_logits_bytes: int):
    hidden_TH, weight_VH, targets_T = problem_on(DEVICE, torch.float32)
    options = options_of("triton", max_logits_bytes=max_logits_bytes)
    tokens = linear_loss(hidden_TH, weight_VH, targets_T, loss_of(name, "triton", DEVICE), options)
    tokens.loss.sum().backward()
    assert_all_close([tokens.loss.detach(), tokens.log_probs, tokens.entropy, *tokens.records.values(), hidden_TH.grad,
                      weight_VH.grad], exact_outcome(name))


@pytest.mark.parametrize("name", ["cross_entropy", "token", "sequence"])
@pytest.mark.parametrize("inplace", [False, True])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_loss_from_logits_is_the_fp64_references(name: str, inplace: bool, dtype: torch.dtype):
    # Beyond V there is padding. Factors of 1 leave the gradient as it is, others scale their rows.
    targets_T = problem_on(DEVICE, torch.float32)[2]
    wide_TV = torch.randn(T, V + 5, generator=torch.Generator().manual_seed(3)).mul(2).to(dtype).to(DEVICE)
    up_T = torch.where(torch.arange(T) % 3 == 0, 1.0, -0.5).double()
    outcomes = []
    for implementation, device, kind in (("triton", DEVICE, dtype), ("reference", "cpu", torch.float64)):
        z_TV = wide_TV.to(device, kind, copy=True).requires_grad_()
        tokens = logits_loss(z_TV, targets_T.to(device), loss_of(name, implementation, device),
                             options_of(implementation, vocab_size=V), inplace=inplace and implementation == "triton")
        address = z_TV.data_ptr()
        (tokens.loss * up_T.to(device, tokens.loss.dtype)).sum().backward()
        outcomes.append([tokens.loss.detach(), tokens.log_probs, tokens.entropy, *tokens.records.values(), z_TV.grad])
        if implementation == "triton":
            assert (z_TV.grad.data_ptr() == address) == inplace
            assert (z_TV.grad[::4] == 0).all() and (z_TV.grad[:, V:] == 0).all()
    ours, exact = outcomes
    assert_all_close(ours[:-1], exact[:-1])
    # a gradient in 16 bits is rounded twice where it is scaled by -0.5: exactly
    error = (ours[-1].double().cpu() - exact[-1].to(dtype).double()).norm()
    assert error <= (1e-6 if dtype == torch.float32 else 1e-3) * exact[-1].norm()


def test_ignored_rows_are_really_zeroed_in_the_memory_of_the_logits_even_where_they_were_nan():
    targets_T = problem_on(DEVICE, torch.float32)[2]
    z_TV = torch.randn(T, V, device=DEVICE)
    z_TV[::4] = float("nan")
    x_TV = z_TV.clone().requires_grad_()
    memory_TV = x_TV.detach()
    logits_loss(x_TV, targets_T, loss_of("token", "triton", DEVICE), options_of("triton"), inplace=True)
    assert (memory_TV[::4] == 0).all() and (memory_TV[1::4] != z_TV[1::4]).all() and memory_TV.isfinite().all()


def test_bf16_states_with_fp32_logits_add_up_in_an_fp32_main_gradient():
    hidden_TH, weight_VH, targets_T = problem_on(DEVICE, torch.bfloat16)
    main_grad = torch.zeros(weight_VH.shape, device=DEVICE)
    options = options_of("triton", max_logits_bytes=6 * A_ROW, fp32_logits=True)
    tokens = linear_loss(hidden_TH, weight_VH, targets_T, CrossEntropy(torch.ones(T, device=DEVICE)), options,
                         main_grad=main_grad)
    tokens.loss.sum().backward()
    exact = [x.detach().cpu().double().requires_grad_() for x in (hidden_TH, weight_VH)]
    exact_tokens = linear_loss(*exact, targets_T.cpu(), CrossEntropy(torch.ones(T)), options_of("reference"))
    exact_tokens.loss.sum().backward()
    torch.testing.assert_close(tokens.log_probs.double().cpu(), exact_tokens.log_probs, rtol=2e-6, atol=1e-5)
    for ours, expected in ((main_grad, exact[1].grad), (hidden_TH.grad, exact[0].grad)):
        assert (ours.double().cpu() - expected).norm() <= 4e-3 * expected.norm()
    assert weight_VH.grad is None


@pytest.mark.parametrize("max_logits_bytes", [1, 1 << 30])
def test_nothing_counts_or_nothing_is_there(max_logits_bytes: int):
    options = options_of("triton", max_logits_bytes=max_logits_bytes)
    for count, target in ((T, -100), (0, 0)):
        hidden_TH, weight_VH, _ = problem_on(DEVICE, torch.float32)
        hidden_TH = hidden_TH[:count].detach().requires_grad_()
        targets_T = torch.full((count,), target, device=DEVICE)
        tokens = GrpoTokens(*(values[:count].to(DEVICE) for values in some_tokens()))
        for ratio in ("token", "sequence"):
            loss = Grpo(tokens, GrpoOptions(ratio=ratio, entropy_coef=0.1), "triton")
            linear_loss(hidden_TH, weight_VH, targets_T, loss, options).loss.sum().backward()
            logits_TV = (hidden_TH @ weight_VH.T).detach().requires_grad_()
            logits_loss(logits_TV, targets_T, loss, options, inplace=True).loss.sum().backward()
            assert logits_TV.grad.shape == logits_TV.shape and (logits_TV.grad == 0).all()
        result = linear_log_prob(hidden_TH, weight_VH, targets_T, options)
        (result.log_probs.sum() + result.entropy.sum()).backward()
        assert hidden_TH.grad.shape == hidden_TH.shape
        assert (hidden_TH.grad == 0).all() and (weight_VH.grad == 0).all() and (result.log_probs == 0).all()


def test_a_row_has_the_same_loss_and_gradient_bits_in_any_batch_of_logits():
    targets_T = problem_on(DEVICE, torch.float32)[2]
    logits_TV = torch.randn(T, V, device=DEVICE)
    all_tokens = GrpoTokens(*(values.to(DEVICE) for values in some_tokens()))

    def bits(rows: Tensor) -> list[Tensor]:
        z_TV = logits_TV[rows].requires_grad_()
        loss = Grpo(GrpoTokens(*(values[rows] for values in all_tokens)), GrpoOptions(kl_coef=0.1), "triton")
        tokens = logits_loss(z_TV, targets_T[rows], loss, options_of("triton"))
        tokens.loss.sum().backward()
        return [tokens.loss.detach(), *tokens.records.values(), z_TV.grad]

    everything = bits(torch.arange(T, device=DEVICE))
    order = torch.randperm(T, generator=torch.Generator().manual_seed(1)).to(DEVICE)
    for rows in (order[:9], order[9:10], order[10:]):
        for values, some in zip(everything, bits(rows), strict=True):
            assert torch.equal(values[rows], some)

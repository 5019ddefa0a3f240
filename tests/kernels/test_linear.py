"""From hidden states and weight, against the same thing written out in fp64. T tokens, V vocabulary, H hidden."""

import weakref

import pytest
import torch
from r1mega_kernels import (
    CrossEntropy,
    Grpo,
    GrpoOptions,
    GrpoTokens,
    LinearOptions,
    linear_log_prob,
    linear_loss,
    log_prob,
    logits_loss,
)
from torch import Tensor

T, V, H = 23, 37, 16
A_ROW = 4 * V  # bytes of a row of fp32 logits
GRPO = GrpoOptions(clip_low=0.1, clip_high=0.2, kl_coef=0.1, entropy_coef=0.05, dual_clip=3.0)


def problem(dtype: torch.dtype = torch.float32) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    hidden_TH = torch.randn(T, H, generator=generator, dtype=torch.float64).to(dtype)
    weight_VH = torch.randn(V, H, generator=generator, dtype=torch.float64).to(dtype)
    targets_T = torch.randint(0, V, (T,), generator=generator)
    targets_T[::4] = -100
    return hidden_TH.requires_grad_(), weight_VH.requires_grad_(), targets_T


def upstream() -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    return torch.randn(T, generator=generator, dtype=torch.float64), torch.randn(T, generator=generator).double()


def some_tokens() -> GrpoTokens:
    """Old and reference log-probs about those of the problem, weights with zeros among them, three sequences."""
    hidden_TH, weight_VH, targets_T = problem(torch.float64)
    log_probs_T = log_prob(hidden_TH @ weight_VH.T, targets_T, ignore_index=-100).log_probs.detach()
    generator = torch.Generator().manual_seed(2)
    noise_4T = torch.randn(4, T, generator=generator, dtype=torch.float64)
    ids_T = torch.arange(T) // 8
    return GrpoTokens(
        advantages_T=noise_4T[0], weights_T=(noise_4T[1].abs() / T).masked_fill(targets_T < 0, 0),
        old_log_probs_T=log_probs_T + 0.3 * noise_4T[2], ref_log_probs_T=log_probs_T + 0.3 * noise_4T[3],
        importance_T=noise_4T[1].abs(), sequence_ids_T=ids_T)


def naive(dtype: torch.dtype = torch.float64) -> list[Tensor]:
    """log-probs, entropies and gradients through torch's own log_softmax."""
    hidden_TH, weight_VH, targets_T = problem(dtype)
    log_p_TV = (hidden_TH @ weight_VH.T / 0.7).log_softmax(dim=-1)
    counted_T = targets_T >= 0
    log_probs_T = log_p_TV.gather(1, targets_T.clamp(min=0)[:, None])[:, 0] * counted_T
    entropy_T = -(log_p_TV.exp() * log_p_TV).sum(-1) * counted_T
    c_T, e_T = upstream()
    ((c_T * log_probs_T).sum() + (e_T * entropy_T).sum()).backward()
    return [log_probs_T.detach(), entropy_T.detach(), hidden_TH.grad, weight_VH.grad]


@pytest.mark.parametrize("max_logits_bytes", [1, 5 * A_ROW, 6 * A_ROW, 1 << 30])
def test_log_probs_and_gradients_are_those_of_log_softmax_whatever_the_budget(max_logits_bytes: int):
    hidden_TH, weight_VH, targets_T = problem()
    options = LinearOptions(temperature=0.7, ignore_index=-100, max_logits_bytes=max_logits_bytes)
    result = linear_log_prob(hidden_TH, weight_VH, targets_T, options)
    c_T, e_T = upstream()
    ((c_T * result.log_probs).sum() + (e_T * result.entropy).sum()).backward()
    ours = [result.log_probs.detach(), result.entropy.detach(), hidden_TH.grad, weight_VH.grad]
    for value, exact in zip(ours, naive(), strict=True):
        torch.testing.assert_close(value.double(), exact, rtol=1e-5, atol=2e-5)
    assert (result.log_probs[::4] == 0).all() and (hidden_TH.grad[::4] == 0).all()


@pytest.mark.parametrize("max_logits_bytes", [1, 1 << 30])
def test_gradcheck_in_fp64(max_logits_bytes: int):
    hidden_TH, weight_VH, targets_T = problem(torch.float64)
    options = LinearOptions(temperature=1.3, ignore_index=-100, vocab_size=V - 3, max_logits_bytes=max_logits_bytes)
    targets_T.clamp_(max=V - 4)

    def both(hidden: Tensor, weight: Tensor) -> tuple[Tensor, ...]:
        return tuple(linear_log_prob(hidden, weight, targets_T[:5], options))

    assert torch.autograd.gradcheck(both, (hidden_TH[:5].detach().requires_grad_(), weight_VH))


@pytest.mark.parametrize("ratio", ["token", "sequence"])
@pytest.mark.parametrize("max_logits_bytes", [1, 6 * A_ROW, 1 << 30])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_loss_made_in_the_forward_pass_is_the_same_loss(ratio: str, max_logits_bytes: int, dtype: torch.dtype):
    loss = Grpo(some_tokens(), GrpoOptions(ratio=ratio, kl_coef=0.1, entropy_coef=0.05))
    outcomes = []
    for way in ("logits", "linear"):
        exact = torch.float64 if way == "logits" else dtype
        hidden_TH, weight_VH, targets_T = problem(exact)
        options = LinearOptions(temperature=0.7, ignore_index=-100, max_logits_bytes=max_logits_bytes)
        if way == "logits":
            tokens = logits_loss(hidden_TH @ weight_VH.T, targets_T, loss, options, inplace=True)
        else:
            tokens = linear_loss(hidden_TH, weight_VH, targets_T, loss, options)
        tokens.loss.sum().backward()
        outcomes.append([tokens.loss, tokens.log_probs, tokens.entropy, *tokens.records.values(), hidden_TH.grad,
                         weight_VH.grad])
    bound = 2e-5 if dtype == torch.float32 else 1e-12
    for exact, ours in zip(*outcomes, strict=True):
        torch.testing.assert_close(ours.double(), exact, rtol=bound, atol=bound)


def test_the_weights_gradient_is_added_to_a_main_gradient_and_nowhere_else():
    hidden_TH, weight_VH, targets_T = problem(torch.float64)
    loss = CrossEntropy(torch.ones(T, dtype=torch.float64))
    options = LinearOptions(ignore_index=-100, max_logits_bytes=5 * A_ROW)
    linear_loss(hidden_TH, weight_VH, targets_T, loss, options).loss.sum().backward()
    expected, weight_VH.grad = weight_VH.grad, None
    main_grad = torch.ones_like(weight_VH)
    linear_loss(hidden_TH, weight_VH, targets_T, loss, options, main_grad=main_grad).loss.sum().backward()
    torch.testing.assert_close(main_grad, 1 + expected)
    result = linear_log_prob(hidden_TH, weight_VH, targets_T, options, main_grad=main_grad)
    (-result.log_probs.sum()).backward()
    torch.testing.assert_close(main_grad, 1 + 2 * expected)
    assert weight_VH.grad is None


def test_bf16_weights_add_up_in_an_fp32_main_gradient():
    hidden_TH, weight_VH, targets_T = problem(torch.bfloat16)
    main_grad = torch.zeros(V, H)
    loss = CrossEntropy(torch.ones(T))
    options = LinearOptions(ignore_index=-100, max_logits_bytes=1, fp32_logits=True)
    linear_loss(hidden_TH, weight_VH, targets_T, loss, options, main_grad=main_grad).loss.sum().backward()
    exact_hidden, exact_weight = (x.detach().double().requires_grad_() for x in (hidden_TH, weight_VH))
    exact = linear_log_prob(exact_hidden, exact_weight, targets_T, LinearOptions(ignore_index=-100))
    (-exact.log_probs.sum()).backward()
    assert (main_grad.double() - exact_weight.grad).norm() <= 3e-3 * exact_weight.grad.norm()
    assert (hidden_TH.grad.double() - exact_hidden.grad).norm() <= 4e-3 * exact_hidden.grad.norm()


def test_fp32_logits_keep_what_bf16_ones_round_away():
    hidden_TH, weight_VH, targets_T = problem(torch.bfloat16)
    exact = linear_log_prob(hidden_TH.double(), weight_VH.double(), targets_T, LinearOptions(ignore_index=-100))

    def error(fp32_logits: bool) -> float:
        options = LinearOptions(ignore_index=-100, fp32_logits=fp32_logits)
        ours = linear_log_prob(hidden_TH, weight_VH, targets_T, options)
        return (ours.log_probs.double() - exact.log_probs).abs().max().item()

    assert error(True) < 1e-5 and error(False) > 1e-3


def test_another_upstream_gradient_multiplies_and_an_uneven_one_is_refused():
    loss = CrossEntropy(torch.ones(T))
    gradients = []
    for factor in (1.0, 3.0):
        hidden_TH, weight_VH, targets_T = problem()
        tokens = linear_loss(hidden_TH, weight_VH, targets_T, loss, LinearOptions(ignore_index=-100))
        (factor * tokens.loss.sum()).backward()
        gradients.append((hidden_TH.grad / factor, weight_VH.grad / factor))
    torch.testing.assert_close(gradients[0], gradients[1])
    tokens = linear_loss(hidden_TH, weight_VH, targets_T, loss, LinearOptions(ignore_index=-100))
    with pytest.raises(RuntimeError, match="must be summed up"):
        (tokens.loss * torch.arange(T)).sum().backward()
    tokens = linear_loss(hidden_TH, weight_VH, targets_T, loss, LinearOptions(ignore_index=-100),
                         main_grad=torch.zeros(V, H))
    with pytest.raises(RuntimeError, match="1 with a main_grad"):
        (2 * tokens.loss.sum()).backward()


def test_from_logits_every_token_may_have_its_own_upstream_gradient():
    hidden_TH, weight_VH, targets_T = problem(torch.float64)
    c_T, _ = upstream()
    c_T[3] = 1.0
    logits_TV = (hidden_TH @ weight_VH.T).detach()
    gradients = []
    for fused in (False, True):
        z = logits_TV.clone().requires_grad_()
        options = LinearOptions(ignore_index=-100)
        if fused:
            loss_T = logits_loss(z, targets_T, CrossEntropy(torch.ones(T)), options).loss
        else:
            loss_T = -log_prob(z, targets_T, ignore_index=-100).log_probs
        (c_T * loss_T).sum().backward()
        gradients.append(z.grad)
    torch.testing.assert_close(*gradients)


def test_in_place_the_gradient_has_the_memory_of_the_logits_and_only_if_one_is_wanted():
    _, _, targets_T = problem()
    z = torch.randn(T, V, requires_grad=True) * 1.0
    before = z.detach().clone()
    loss, options = CrossEntropy(torch.ones(T)), LinearOptions(ignore_index=-100)
    with torch.no_grad():
        logits_loss(z, targets_T, loss, options, inplace=True)
    assert torch.equal(z, before)
    seen = []
    z.register_hook(seen.append)
    tokens = logits_loss(z, targets_T, loss, options, inplace=True)
    tokens.loss.sum().backward(retain_graph=True)
    assert seen[0].data_ptr() == z.data_ptr() and not torch.equal(z, before)
    with pytest.raises(RuntimeError, match="handed out before"):
        tokens.loss.sum().backward()


@pytest.mark.parametrize("max_logits_bytes", [1, 1 << 30])
def test_nothing_counts_or_nothing_is_there(max_logits_bytes: int):
    options = LinearOptions(ignore_index=-100, max_logits_bytes=max_logits_bytes)
    for targets_T in (torch.full((T,), -100), torch.zeros(0, dtype=torch.long)):
        hidden_TH, weight_VH, _ = problem()
        hidden_TH = hidden_TH[: len(targets_T)].detach().requires_grad_()
        result = linear_log_prob(hidden_TH, weight_VH, targets_T, options)
        (result.log_probs.sum() + result.entropy.sum()).backward()
        tokens = linear_loss(hidden_TH, weight_VH, targets_T, CrossEntropy(torch.ones(len(targets_T))), options)
        tokens.loss.sum().backward()
        assert (hidden_TH.grad == 0).all() and (weight_VH.grad == 0).all() and (result.log_probs == 0).all()
        assert hidden_TH.grad.shape == hidden_TH.shape


def test_ignored_rows_may_be_nan_and_are_never_multiplied():
    hidden_TH, weight_VH, targets_T = problem()
    with torch.no_grad():
        hidden_TH[::4] = float("nan")
    tokens = linear_loss(hidden_TH, weight_VH, targets_T, CrossEntropy(torch.ones(T)), LinearOptions(ignore_index=-100))
    tokens.loss.sum().backward()
    assert tokens.loss.isfinite().all() and weight_VH.grad.isfinite().all() and (hidden_TH.grad[::4] == 0).all()


def test_no_more_logits_than_the_budget_are_there_at_a_time(monkeypatch: pytest.MonkeyPatch):
    from r1mega_kernels import linear

    alive, most = [], 0
    project = linear.project

    def watched(*args) -> Tensor:
        nonlocal most
        logits_RV = project(*args)
        alive[:] = [reference for reference in alive if reference() is not None]
        alive.append(weakref.ref(logits_RV))
        most = max(most, sum(reference().numel() * 4 for reference in alive))
        return logits_RV

    monkeypatch.setattr(linear, "project", watched)
    hidden_TH, weight_VH, targets_T = problem()
    options = LinearOptions(ignore_index=-100, max_logits_bytes=6 * A_ROW)
    linear_loss(hidden_TH, weight_VH, targets_T, CrossEntropy(torch.ones(T)), options).loss.sum().backward()
    linear_log_prob(hidden_TH, weight_VH, targets_T, options).log_probs.sum().backward()
    assert 0 < most <= 6 * A_ROW


@pytest.mark.parametrize(
    ("change", "message"),
    [({"hidden": torch.zeros(3, H + 1)}, r"hidden \[3, 17\]"),
     ({"targets": torch.zeros(4, dtype=torch.long)}, "3 rows"),
     ({"hidden": torch.zeros(3, H).bfloat16()}, "bfloat16.*float32"), ({"main_grad": torch.zeros(1)}, "main_grad"),
     ({"options": LinearOptions(temperature=0)}, "temperature=0"),
     ({"options": LinearOptions(vocab_size=V + 1)}, "vocab_size=38")],
)
def test_what_does_not_fit_is_refused(change: dict, message: str):
    call = {"hidden": torch.zeros(3, H), "weight": torch.zeros(V, H), "targets": torch.zeros(3, dtype=torch.long),
            "options": LinearOptions(), "main_grad": None} | change
    with pytest.raises(ValueError, match=message):
        linear_log_prob(call["hidden"], call["weight"], call["targets"], call["options"], main_grad=call["main_grad"])

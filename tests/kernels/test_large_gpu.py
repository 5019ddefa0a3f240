"""What only a GPU has the memory for: offsets past 2^31, many tokens, long sequences. T rows, V columns."""

import pytest
import torch
from r1mega_kernels import Grpo, GrpoOptions, GrpoTokens, Options, grpo_loss, log_prob, logits_loss
from torch import Tensor

pytest.importorskip("triton")
pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an NVIDIA GPU")]

V = 129280  # T * V passes 2^31 at T = 16,612
OPTIONS = Options(temperature=0.7, ignore_index=-100, implementation="triton")


def rows_to_look_at(count: int) -> Tensor:
    """The first and the last, those around 2^31 and 2^32 numbers, and some between."""
    edges = [2**31 // V, 2**32 // V]
    rows = [0, 1, count // 2, count - 2, count - 1, *(edge + i for edge in edges for i in (-1, 0, 1, 2))]
    return torch.tensor(sorted({row for row in rows if row < count}), device="cuda")


def numbers(count: int) -> tuple[Tensor, Tensor, Tensor]:
    """logits in bf16 [T, V], targets, some of them ignored, log-probs of an older policy."""
    generator = torch.Generator("cuda").manual_seed(0)
    logits_TV = torch.empty(count, V, device="cuda", dtype=torch.bfloat16)
    for part in logits_TV.split(1024):
        part.normal_(std=3, generator=generator)
    targets_T = torch.randint(0, V, (count,), device="cuda", generator=generator)
    targets_T[5::64] = -100
    return logits_TV, targets_T, -torch.rand(count, device="cuda", generator=generator) - 12


@pytest.mark.parametrize("count", [16640, 32768])
def test_log_prob_and_its_gradient_in_place_where_offsets_pass_2_to_the_31(count: int):
    logits_TV, targets_T, _ = numbers(count)
    rows = rows_to_look_at(count)
    exact_RV = logits_TV[rows].double().requires_grad_()
    exact = log_prob(exact_RV, targets_T[rows], temperature=0.7, ignore_index=-100)
    (exact.log_probs.sum() + 0.3 * exact.entropy.sum()).backward()
    logits_TV.requires_grad_()
    ours = log_prob(logits_TV, targets_T, temperature=0.7, ignore_index=-100, implementation="triton",
                    inplace_backward=True)
    (ours.log_probs.sum() + 0.3 * ours.entropy.sum()).backward()
    torch.testing.assert_close(ours.log_probs[rows].double(), exact.log_probs, rtol=1.2e-7, atol=5e-6)
    torch.testing.assert_close(ours.entropy[rows].double(), exact.entropy, rtol=0, atol=1e-5)
    rounded = exact_RV.grad.bfloat16().double()
    assert (logits_TV.grad[rows].double() - rounded).norm() <= 1e-3 * exact_RV.grad.norm()
    assert (logits_TV.grad[5::64] == 0).all()


@pytest.mark.parametrize("count", [16640, 32768])
def test_a_fused_loss_scaled_by_its_upstream_gradient_where_offsets_pass_2_to_the_31(count: int):
    logits_TV, targets_T, old_T = numbers(count)
    rows = rows_to_look_at(count)
    ones_T = torch.ones(count, device="cuda")
    tokens = GrpoTokens(ones_T, (targets_T >= 0) / count, old_T, old_T)
    up_T = torch.where(torch.arange(count, device="cuda") % 2 == 0, 1.0, -2.0)
    exact_RV = logits_TV[rows].double().requires_grad_()
    chosen = Grpo(GrpoTokens(*(None if x is None else x[rows] for x in tokens)), GrpoOptions(kl_coef=0.1))
    exact = logits_loss(exact_RV, targets_T[rows], chosen, Options(temperature=0.7, ignore_index=-100))
    (exact.loss * up_T[rows]).sum().backward()
    loss = Grpo(tokens, GrpoOptions(kl_coef=0.1), "triton")
    logits_TV.requires_grad_()
    ours = logits_loss(logits_TV, targets_T, loss, OPTIONS, inplace=True)
    (ours.loss * up_T).sum().backward()
    assert (ours.loss[rows].double() - exact.loss).norm() <= 1e-5 * exact.loss.norm()
    rounded = exact_RV.grad.bfloat16().double()
    assert (logits_TV.grad[rows].double() - rounded).norm() <= 1e-3 * exact_RV.grad.norm()


@pytest.mark.parametrize("length", [65535, 65536, 65537, 1 << 20])
@pytest.mark.parametrize("ratio", ["token", "sequence"])
def test_sequences_of_65536_tokens_and_more(length: int, ratio: str):
    generator = torch.Generator("cuda").manual_seed(0)
    count = length + 70001
    log_probs_T, noise_T, advantages_T, weights_T = torch.randn(4, count, device="cuda", generator=generator)
    ids_T = (torch.arange(count, device="cuda") >= length).long()
    tokens = GrpoTokens(advantages_T, weights_T.abs() / count, log_probs_T + 0.1 * noise_T, log_probs_T - 0.1 * noise_T,
                        None, ids_T)
    options = GrpoOptions(ratio=ratio, kl_coef=0.1)
    entropy_T = torch.zeros_like(log_probs_T)
    outcomes = []
    for kind, implementation in ((torch.float32, "triton"), (torch.float64, "reference")):
        x_T = log_probs_T.to(kind).clone().requires_grad_()
        result = grpo_loss(x_T, entropy_T.to(kind), tokens, options, implementation)
        result.loss.sum().backward()
        outcomes.append([result.loss.detach(), x_T.grad, *result.records.values()])
    for ours, exact in zip(*outcomes, strict=True):
        assert (ours.double() - exact).norm() <= 2e-6 * exact.norm()


def test_no_kernel_of_a_loss_waits_for_the_gpu():
    logits_TV, targets_T, old_T = (x[:64] for x in numbers(64))
    tokens = GrpoTokens(torch.ones_like(old_T), torch.ones_like(old_T), old_T, old_T, None,
                        torch.arange(64, device="cuda") // 16)
    loss = Grpo(tokens, GrpoOptions(ratio="sequence", kl_coef=0.1, entropy_coef=0.1), "triton")
    for _ in range(2):  # the first time kernels are compiled and loaded
        z_TV = logits_TV.clone().requires_grad_()
        torch.cuda.set_sync_debug_mode("error")
        try:
            (2 * logits_loss(z_TV, targets_T, loss, OPTIONS, inplace=True).loss.sum()).backward()
        finally:
            torch.cuda.set_sync_debug_mode("default")

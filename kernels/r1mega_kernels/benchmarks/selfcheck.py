"""Ours against the fp64 reference on this very device, before anything is timed.

The bounds are those of the design: log p 5e-6, entropy 1e-5, the gradient 1e-3 of its norm in bf16 (against the truth
rounded to bf16) and 1e-6 in fp32; plus the two roundings of a number as large as a log-prob.

Shapes: T rows, V columns.
"""

from typing import Any

import torch
from torch import Tensor

from r1mega_kernels import (
    CrossEntropy,
    Grpo,
    GrpoOptions,
    GrpoTokens,
    Implementation,
    LinearOptions,
    Options,
    linear_loss,
    log_prob,
    logits_loss,
)
from r1mega_kernels.benchmarks.problem import normal

ROWS, IGNORED = 64, -100
VOCABS = {"cuda": (129280, 16160, 151936, 50257), "cpu": (512, 509)}
FAR_ROWS, FAR_VOCAB = 16640, 129280
"""Rows times columns passes 2^31."""


def self_check(device: torch.device, implementation: Implementation, seed: int) -> list[dict[str, Any]]:
    """One entry a check: name, error, bound, passed."""
    found = []
    for vocab in VOCABS[device.type]:
        for dtype, temperature in ((torch.bfloat16, 1.0), (torch.bfloat16, 0.3), (torch.float32, 2.0)):
            name = f"log_prob, V={vocab}, {str(dtype).removeprefix('torch.')}, temperature {temperature}"
            found += _log_prob(name, vocab, dtype, temperature, (device, implementation, seed))
        found += _grpo(vocab, device, implementation, seed)
    found += _linear(device, implementation, seed)
    if device.type == "cuda":
        found.append(_far_row(device, implementation, seed))
    return found


def _entry(name: str, error: float, bound: float) -> dict[str, Any]:
    return {"check": name, "error": error, "bound": bound, "passed": bool(error <= bound)}  # NaN does not


def _log_prob(
    name: str, vocab: int, dtype: torch.dtype, temperature: float, run: tuple[torch.device, Implementation, int]
) -> list[dict[str, Any]]:
    device, implementation, seed = run
    generator = torch.Generator(device).manual_seed(seed)
    logits_TV = normal((ROWS, vocab), 3.0, generator).to(dtype)
    targets_T = torch.randint(0, vocab, (ROWS,), generator=generator, device=device)
    targets_T[::7] = IGNORED
    c_T, e_T = (torch.randn(ROWS, generator=generator, device=device) for _ in range(2))
    outcomes = []
    for kind, values in ((implementation, logits_TV.clone()), ("reference", logits_TV.double())):
        x = values.requires_grad_()
        log_probs_T, entropy_T = log_prob(
            x, targets_T, temperature=temperature, ignore_index=IGNORED, implementation=kind)
        (gradient_TV,) = torch.autograd.grad([log_probs_T, entropy_T], x, [c_T.to(log_probs_T), e_T.to(entropy_T)])
        outcomes.append((log_probs_T.detach().double(), entropy_T.detach().double(), gradient_TV))
    (log_p_T, entropy_T, dz_TV), (exact_T, exact_entropy_T, exact_dz_TV) = outcomes
    rounding_T = 1.2e-7 * exact_T.abs()
    return [
        _entry(f"{name}: log p", ((log_p_T - exact_T).abs() - rounding_T).max().item(), 5e-6),
        _entry(f"{name}: entropy", (entropy_T - exact_entropy_T).abs().max().item(), 1e-5),
        _entry(f"{name}: gradient", _relative(dz_TV, exact_dz_TV), 1e-3 if dtype == torch.bfloat16 else 1e-6),
    ]


def _relative(values: Tensor, expected: Tensor) -> float:
    return ((values.double() - expected.to(values.dtype).double()).norm() / expected.norm()).item()


def _grpo(vocab: int, device: torch.device, implementation: Implementation, seed: int) -> list[dict[str, Any]]:
    """Every term at once, fused with bf16 logits, the gradient over them."""
    generator = torch.Generator(device).manual_seed(seed)
    logits_TV = normal((ROWS, vocab), 3.0, generator)
    targets_T = torch.randint(0, vocab, (ROWS,), generator=generator, device=device)
    near_T = log_prob(logits_TV.double(), targets_T).log_probs
    noise_3T = torch.randn(3, ROWS, generator=generator, device=device)
    tokens = GrpoTokens(
        advantages_T=noise_3T[0], weights_T=torch.full((ROWS,), 1 / ROWS, device=device),
        old_log_probs_T=near_T + 0.3 * noise_3T[1], ref_log_probs_T=near_T + 0.3 * noise_3T[2],
        sequence_ids_T=torch.arange(ROWS, device=device) // 16)
    found = []
    for ratio in ("token", "sequence"):
        options = GrpoOptions(kl_coef=0.04, entropy_coef=0.01, dual_clip=3.0, ratio=ratio)
        outcomes = []
        for kind, values in ((implementation, logits_TV.clone()), ("reference", logits_TV.double())):
            x = values.requires_grad_()
            loss_T = logits_loss(
                x, targets_T, Grpo(tokens, options, kind), Options(implementation=kind), inplace=True).loss
            outcomes.append((loss_T.detach().double(), torch.autograd.grad(loss_T.sum(), x)[0]))
        (loss_T, dz_TV), (exact_T, exact_dz_TV) = outcomes
        name = f"GRPO, V={vocab}, bfloat16, ratios of a {ratio}"
        found += [_entry(f"{name}: loss x {ROWS}", (loss_T - exact_T).abs().max().item() * ROWS, 1e-4),
                  _entry(f"{name}: gradient", _relative(dz_TV, exact_dz_TV), 1e-3)]
    return found


def _linear(device: torch.device, implementation: Implementation, seed: int) -> list[dict[str, Any]]:
    """Two chunks, into a main gradient; fp32 logits, so that nothing but the products' own rounding is left."""
    generator = torch.Generator(device).manual_seed(seed)
    vocab, hidden = (4096, 1024) if device.type == "cuda" else (256, 32)
    hidden_TH = normal((ROWS, hidden), 1.0, generator)
    weight_VH = normal((vocab, hidden), 3.0 / hidden**0.5, generator)
    targets_T = torch.randint(0, vocab, (ROWS,), generator=generator, device=device)
    outcomes = []
    for kind, dtype in ((implementation, torch.bfloat16), ("reference", torch.float64)):
        x, w = hidden_TH.to(dtype, copy=True).requires_grad_(), weight_VH.to(dtype, copy=True).requires_grad_()
        main_grad = torch.zeros_like(weight_VH, dtype=torch.promote_types(dtype, torch.float32))
        options = LinearOptions(implementation=kind, fp32_logits=True, max_logits_bytes=6 * vocab * (ROWS // 2))
        losses = linear_loss(x, w, targets_T, CrossEntropy(torch.ones(ROWS, device=device)), options,
                             main_grad=main_grad)
        (d_hidden_TH,) = torch.autograd.grad(losses.loss.sum(), x)
        outcomes.append((losses.log_probs.double(), d_hidden_TH, main_grad))
    (log_p_T, d_hidden_TH, d_weight_VH), (exact_T, exact_d_hidden_TH, exact_d_weight_VH) = outcomes
    return [
        _entry("linear_loss: log p from fp32 logits", (log_p_T - exact_T).abs().max().item(), 5e-5),
        _entry("linear_loss: d hidden", _relative(d_hidden_TH, exact_d_hidden_TH), 5e-3),
        _entry("linear_loss: d weight", _relative(d_weight_VH, exact_d_weight_VH), 5e-3),
    ]


def _far_row(device: torch.device, implementation: Implementation, seed: int) -> dict[str, Any]:
    """The last of many rows has the bits that it has alone: offsets past 2^31, and nothing that depends on T."""
    generator = torch.Generator(device).manual_seed(seed)
    row_1V = normal((1, FAR_VOCAB), 3.0, generator)
    logits_TV = torch.zeros(FAR_ROWS, FAR_VOCAB, dtype=row_1V.dtype, device=device)
    logits_TV[-1:] = row_1V
    targets_T = torch.full((FAR_ROWS,), FAR_VOCAB - 1, device=device)
    outcomes = []
    for values, targets in ((logits_TV, targets_T), (row_1V, targets_T[-1:])):
        x = values.requires_grad_()
        log_probs_T, entropy_T = log_prob(x, targets, implementation=implementation, inplace_backward=True)
        (gradient_TV,) = torch.autograd.grad(log_probs_T, x, torch.ones_like(log_probs_T))
        outcomes.append((log_probs_T[-1].item(), entropy_T[-1].item(), gradient_TV[-1].clone()))
    (log_p, entropy, row_V), (log_p_alone, entropy_alone, alone_V) = outcomes
    same = log_p == log_p_alone and entropy == entropy_alone and torch.equal(row_V, alone_V)
    return _entry(f"T x V = {FAR_ROWS * FAR_VOCAB}: the last row has the bits it has alone", float(not same), 0.0)

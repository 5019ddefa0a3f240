"""Fused with the head, with the vocabulary split between real ranks. T tokens, V columns of all ranks, H hidden."""

from typing import NamedTuple

import pytest
import torch
import torch.distributed as dist
from r1mega_kernels import (
    CrossEntropy,
    Grpo,
    GrpoOptions,
    GrpoTokens,
    LinearOptions,
    TokenLoss,
    linear_log_prob,
    linear_loss,
    log_prob,
    logits_loss,
)
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from tests.ranks import run_ranks

T, VOCAB, H = 24, 37, 16
WHOLE = 1 << 30


class Case(NamedTuple):
    padded: int  # 40 leaves 3 columns of padding at the end; 80 makes whole ranks of nothing but padding
    dtype: torch.dtype
    implementation: str
    sequence_parallel: bool
    chunk: int  # rows whose logits fit the budget

    def options(self, group: dist.ProcessGroup | None) -> LinearOptions:
        ranks = 1 if group is None else dist.get_world_size(group)
        return LinearOptions(
            temperature=0.8, group=group, vocab_size=VOCAB, ignore_index=-100, implementation=self.implementation,
            max_logits_bytes=self.chunk * self.dtype.itemsize * self.padded // ranks,
            sequence_parallel=self.sequence_parallel)


CASES = [
    Case(40, torch.float64, "reference", False, WHOLE),
    Case(40, torch.float64, "reference", True, 5),
    Case(80, torch.float64, "reference", True, WHOLE),
    Case(80, torch.float64, "reference", False, 1),
    Case(40, torch.float32, "reference", True, 7),
    Case(40, torch.float32, "triton", False, 7),
    Case(80, torch.float32, "triton", True, WHOLE),
]


def problem(padded: int) -> tuple[Tensor, Tensor, Tensor, Tensor, GrpoTokens]:
    """Hidden states [T, H], weight [V, H], targets, upstream gradients [2, T], and what GRPO needs: fp64."""
    generator = torch.Generator().manual_seed(7)
    hidden_TH = torch.randn(T, H, generator=generator, dtype=torch.float64)
    weight_VH = torch.randn(padded, H, generator=generator, dtype=torch.float64)
    weight_VH[VOCAB:] *= 100  # would take over every row if it counted
    targets_T = torch.randint(0, VOCAB, (T,), generator=generator)
    targets_T[:8] = torch.tensor([0, 9, 10, 19, 20, 29, 36, -100])  # 4 ranks of 10 columns, 2 of 20
    targets_T[9::5] = -100
    noise_6T = torch.randn(6, T, generator=generator, dtype=torch.float64)
    with torch.no_grad():
        log_probs_T = log_prob(hidden_TH @ weight_VH.T, targets_T, temperature=0.8, vocab_size=VOCAB,
                               ignore_index=-100).log_probs
    weights_T = (noise_6T[1].abs() / T).masked_fill(targets_T < 0, 0)
    tokens = GrpoTokens(noise_6T[0], weights_T, log_probs_T + 0.3 * noise_6T[2], log_probs_T + 0.3 * noise_6T[3],
                        noise_6T[1].abs(), torch.arange(T) // 9)
    return hidden_TH, weight_VH, targets_T, noise_6T[4:], tokens


def losses(tokens: GrpoTokens, implementation: str) -> list[TokenLoss]:
    options = [GrpoOptions(ratio=ratio, kl_coef=0.1, entropy_coef=0.05, dual_clip=3.0, clip_low=0.1)
               for ratio in ("token", "sequence")]
    return [CrossEntropy(tokens.weights_T), *(Grpo(tokens, some, implementation) for some in options)]


def outcomes(case: Case, group: dist.ProcessGroup | None) -> list[list[list[Tensor]]]:
    """Of linear_log_prob and of three losses: ([values of all tokens], gradients of this rank's states and weight)."""
    hidden_TH, weight_VH, targets_T, up_2T, tokens = problem(case.padded)
    rank, ranks = (0, 1) if group is None else (dist.get_rank(group), dist.get_world_size(group))
    if case.sequence_parallel:
        hidden_TH = hidden_TH.chunk(ranks)[rank]
    weight_VH = weight_VH.chunk(ranks)[rank]
    results = []
    for loss in (None, *losses(tokens, case.implementation)):
        hidden, weight = (x.to(case.dtype).clone().requires_grad_() for x in (hidden_TH, weight_VH))
        if loss is None:
            values = [*linear_log_prob(hidden, weight, targets_T, case.options(group))]
            torch.autograd.backward(values, [*up_2T.to(case.dtype)])
        else:
            result = linear_loss(hidden, weight, targets_T, loss, case.options(group))
            result.loss.sum().backward()
            values = [result.loss, result.log_probs, result.entropy, *result.records.values()]
        results.append([[x.detach() for x in values], [hidden.grad], [weight.grad]])
    return results


def split() -> list[list[list[list[Tensor]]]]:
    from r1mega_kernels import grpo_triton, log_prob_triton

    import tests.kernels.interpreter  # noqa: F401

    log_prob_triton.BLOCK_COLUMNS, log_prob_triton.SPLIT_BLOCKS = 8, 1  # 10 columns: 2 splits, the last one not full
    grpo_triton.BLOCK_TOKENS, grpo_triton.BLOCK_SEQUENCE = 8, 4
    group = dist.new_group()  # not the default group: the argument decides
    return [outcomes(case, group) for case in CASES]


def assert_agrees(case: Case, by_rank: list[list[list[Tensor]]], exact: list[list[Tensor]]) -> None:
    values, (hidden_grad,), (weight_grad,) = by_rank[0]
    for other, *_ in by_rank:  # every rank has the same bits
        assert all(torch.equal(x, y) for x, y in zip(values, other, strict=True))
    weight_grad = torch.cat([part[0] for _, _, part in by_rank])
    if case.sequence_parallel:
        hidden_grad = torch.cat([part[0] for _, part, _ in by_rank])
    assert (weight_grad[VOCAB:] == 0).all() and (hidden_grad[[7, 9, 14]] == 0).all()
    exact_values, (exact_hidden_grad,), (exact_weight_grad,) = exact
    in_fp64 = case.dtype == torch.float64
    for value, expected in zip(values, exact_values, strict=True):
        rtol, atol = (0, 1e-12) if in_fp64 else (2e-6, 5e-6)  # the bound of log-probs, and roundings of what is large
        torch.testing.assert_close(value.double(), expected, rtol=rtol, atol=atol)
    for gradient, expected in ((hidden_grad, exact_hidden_grad), (weight_grad, exact_weight_grad)):
        assert (gradient.double() - expected).norm() <= (1e-12 if in_fp64 else 2e-6) * expected.norm()


@pytest.mark.parametrize("num_ranks", [1, 2, 4])
def test_ranks_agree_with_one_rank_in_fp64(num_ranks: int, monkeypatch: pytest.MonkeyPatch):
    pytest.importorskip("triton")
    monkeypatch.setenv("TRITON_INTERPRET", "1")  # of the ranks, which start afresh
    by_rank = run_ranks(split, num_ranks, init="gloo")
    for i, case in enumerate(CASES):
        exact = outcomes(Case(case.padded, torch.float64, "reference", False, WHOLE), None)
        for way, expected in enumerate(exact):
            assert_agrees(case, [cases[i][way] for cases in by_rank], expected)


class Collectives(TorchDispatchMode):
    """Notes the largest tensor, in numbers, that each collective is called with, whoever calls it."""

    def __init__(self) -> None:
        super().__init__()
        self.sizes: list[int] = []

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        if function.namespace == "c10d":
            self.sizes.append(max(_sizes([*args, *(kwargs or {}).values()]), default=0))
        return function(*args, **(kwargs or {}))


def _sizes(something: object) -> list[int]:
    if isinstance(something, Tensor):
        return [something.numel()]
    if isinstance(something, list | tuple):
        return [size for one in something for size in _sizes(one)]
    return []


def watched(implementation: str, sequence_parallel: bool) -> dict[str, list[int]]:
    """What each function sends in its forward and backward pass, of 400 columns a rank."""
    import tests.kernels.interpreter  # noqa: F401

    hidden_TH, _, targets_T, _, tokens = problem(40)
    hidden_TH = hidden_TH.float()
    if sequence_parallel:
        hidden_TH = hidden_TH.chunk(dist.get_world_size())[dist.get_rank()]
    weight_VH = torch.randn(400, H)
    logits_TV = torch.randn(T, 400)
    loss = losses(tokens, implementation)[2]
    options = LinearOptions(group=dist.group.WORLD, ignore_index=-100, max_logits_bytes=5 * 4 * 400,
                            sequence_parallel=sequence_parallel, implementation=implementation)
    calls = {
        "log_prob": lambda: log_prob(
            logits_TV.requires_grad_(), targets_T, group=dist.group.WORLD, ignore_index=-100,
            implementation=implementation).log_probs,
        "logits_loss": lambda: logits_loss(logits_TV.requires_grad_(), targets_T, loss, options).loss,
        "linear_log_prob": lambda: linear_log_prob(
            hidden_TH.requires_grad_(), weight_VH.requires_grad_(), targets_T, options).log_probs,
        "linear_loss": lambda: linear_loss(
            hidden_TH.requires_grad_(), weight_VH.requires_grad_(), targets_T, loss, options).loss,
    }
    sizes = {}
    for name, call in calls.items():
        with Collectives() as seen:
            call().sum().backward()
        sizes[name] = seen.sizes
    return sizes


@pytest.mark.parametrize(("implementation", "sequence_parallel"), [("reference", True), ("triton", False)])
def test_no_collective_ever_carries_the_logits(
    implementation: str, sequence_parallel: bool, monkeypatch: pytest.MonkeyPatch
):
    pytest.importorskip("triton")
    monkeypatch.setenv("TRITON_INTERPRET", "1")
    for sizes in run_ranks(watched, 2, implementation, sequence_parallel, init="gloo"):
        for name in ("log_prob", "logits_loss"):  # four numbers a token and rank, once
            assert len(sizes[name]) == 1 and sizes[name][0] <= T * 4 * 2
        for name in ("linear_log_prob", "linear_loss"):
            assert max(sizes[name]) == T * H < T * 400

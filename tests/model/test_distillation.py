"""The mixed loss against autograd on whole fp64 logits, with the vocabulary split between real ranks, and by hand.

T tokens, V columns of all ranks, H and G hidden of student and teacher.
"""

import math
from typing import NamedTuple

import pytest
import torch
import torch.distributed as dist
from r1mega_kernels import LinearOptions
from torch import Tensor
from torch.testing import assert_close

from r1mega.model.distillation import Teaching, distillation_loss
from tests.ranks import run_ranks

T, VOCAB, H, G = 12, 37, 8, 6


class Case(NamedTuple):
    padded: int  # 40 leaves 3 columns of padding; 80 makes a whole rank of nothing but padding
    sequence_parallel: bool
    chunk: int  # bytes of logits
    coef: float
    temperature: float
    main_grad: bool = False


CASES = [
    Case(40, False, 1 << 30, 0.3, 1.0), Case(40, True, 1, 0.5, 2.0), Case(80, True, 1 << 30, 1.0, 0.7, main_grad=True),
    Case(80, False, 4000, 0.5, 2.0, main_grad=True)]


def problem(padded: int) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(3)

    def draw(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator, dtype=torch.float64)

    weights = {"student_VH": draw(padded, H), "teacher_VG": draw(padded, G)}
    for weight in weights.values():
        weight[VOCAB:] *= 100  # would take over every row if it counted
    targets_T = torch.randint(0, VOCAB, (T,), generator=generator)
    targets_T[::5] = -100
    return {"hidden_TH": draw(T, H), "states_TG": draw(T, G), "targets_T": targets_T,
            "weights_T": torch.rand(T, generator=generator, dtype=torch.float64), **weights}


def reference(case: Case) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Loss [T], KL [T], and the gradients of the sum by hidden states and weight: plain autograd."""
    parts = problem(case.padded)
    hidden_TH, student_VH = (parts[name].requires_grad_() for name in ("hidden_TH", "student_VH"))
    logits = hidden_TH @ student_VH[:VOCAB].T
    teacher = parts["states_TG"] @ parts["teacher_VG"][:VOCAB].T
    counted = parts["targets_T"] >= 0
    ce = -logits.log_softmax(-1)[torch.arange(T), parts["targets_T"].clamp(min=0)]
    kl = torch.nn.functional.kl_div(
        (logits / case.temperature).log_softmax(-1), (teacher / case.temperature).log_softmax(-1), log_target=True,
        reduction="none").sum(-1)
    loss = parts["weights_T"] * ((1 - case.coef) * ce + case.coef * case.temperature**2 * kl) * counted
    return (loss.detach(), (kl * counted).detach(), *torch.autograd.grad(loss.sum(), (hidden_TH, student_VH)))


def ours(cases: list[Case]) -> list[tuple[Tensor, Tensor, Tensor, Tensor]]:
    """The same on this rank, whose weight's rows, and with sequence parallelism whose tokens, are a part."""
    group = dist.group.WORLD if dist.is_initialized() else None
    rank, ranks = (0, 1) if group is None else (dist.get_rank(), dist.get_world_size())
    results = []
    for case in cases:
        parts = problem(case.padded)
        student_VH, teacher_VG = (parts[name].chunk(ranks)[rank].clone() for name in ("student_VH", "teacher_VG"))
        hidden_SH, states_SG = parts["hidden_TH"], parts["states_TG"]
        if case.sequence_parallel:
            hidden_SH, states_SG = (x.chunk(ranks)[rank].clone() for x in (hidden_SH, states_SG))
        hidden_SH.requires_grad_()
        student_VH.requires_grad_()
        options = LinearOptions(group=group, vocab_size=VOCAB, ignore_index=-100, max_logits_bytes=case.chunk,
                                sequence_parallel=case.sequence_parallel)
        main_grad = torch.ones_like(student_VH) if case.main_grad else None
        tokens = distillation_loss(
            hidden_SH, student_VH, parts["targets_T"],
            Teaching(parts["weights_T"], states_SG, teacher_VG, case.coef, case.temperature), options,
            main_grad=main_grad)
        tokens.loss.sum().backward()
        d_weight_VH = main_grad - 1 if case.main_grad else student_VH.grad
        assert case.main_grad == (student_VH.grad is None)
        results.append((tokens.loss.detach(), tokens.records["kl"].detach(), hidden_SH.grad, d_weight_VH))
    return results


@pytest.fixture(scope="module")
def by_rank() -> list[list[tuple[Tensor, ...]]]:
    return run_ranks(ours, 2, CASES, init="gloo")


@pytest.mark.parametrize("number", range(len(CASES)))
def test_loss_and_gradients_are_those_of_autograd_on_whole_logits(by_rank, number):
    case = CASES[number]
    loss_T, kl_T, d_hidden_TH, d_weight_VH = reference(case)
    alone, *ranks = (results[number] for results in (ours(CASES), *by_rank))
    assert kl_T.max() > 0.1
    assert_close(alone, (loss_T, kl_T, d_hidden_TH, d_weight_VH))
    for rank in ranks:
        assert_close(rank[:2], (loss_T, kl_T))
    hidden = torch.cat([rank[2] for rank in ranks]) if case.sequence_parallel else ranks[0][2]
    assert_close(hidden, d_hidden_TH)
    assert_close(torch.cat([rank[3] for rank in ranks]), d_weight_VH)


def test_two_tokens_of_a_vocabulary_of_two_worked_by_hand():
    """Logits (0, log 3) are p = (1/4, 3/4); the teacher's (log 2, 0) are q = (2/3, 1/3). With temperature 1:
    KL(q || p) = 2/3 log(8/3) + 1/3 log(4/9). The gradient by the logits is (p - 1_target)/2 + (p - q)/2."""
    hidden = torch.ones(1, 1, dtype=torch.float64, requires_grad=True)
    weight = torch.tensor([[0.0], [math.log(3)]], dtype=torch.float64, requires_grad=True)
    teacher = torch.tensor([[math.log(2)], [0.0]], dtype=torch.float64)
    one = torch.ones(1, dtype=torch.float64)
    tokens = distillation_loss(hidden, weight, torch.tensor([0]), Teaching(one, one[:, None], teacher, 0.5, 1.0),
                               LinearOptions(vocab_size=2, ignore_index=-100))
    kl = 2 / 3 * math.log(8 / 3) + 1 / 3 * math.log(4 / 9)
    assert float(tokens.records["kl"]) == pytest.approx(kl)
    assert float(tokens.loss.detach()) == pytest.approx(0.5 * math.log(4) + 0.5 * kl)
    assert float(tokens.log_probs) == pytest.approx(-math.log(4))
    assert float(tokens.entropy) == pytest.approx(0.25 * math.log(4) + 0.75 * math.log(4 / 3))
    tokens.loss.sum().backward()
    gradient = [0.5 * (1 / 4 - 1) + 0.5 * (1 / 4 - 2 / 3), 0.5 * 3 / 4 + 0.5 * (3 / 4 - 1 / 3)]
    assert weight.grad[:, 0].tolist() == pytest.approx(gradient)
    assert float(hidden.grad) == pytest.approx(math.log(3) * gradient[1])


def test_a_teacher_that_is_the_student_teaches_nothing():
    parts = problem(40)
    hidden = parts["hidden_TH"].requires_grad_()
    teaching = Teaching(parts["weights_T"], parts["hidden_TH"].detach(), parts["student_VH"], 1.0, 3.0)
    tokens = distillation_loss(hidden, parts["student_VH"], parts["targets_T"], teaching,
                               LinearOptions(vocab_size=VOCAB, ignore_index=-100))
    tokens.loss.sum().backward()
    assert tokens.loss.abs().max() < 1e-12 and hidden.grad.abs().max() < 1e-12

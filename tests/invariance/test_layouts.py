"""One set of initial weights, one batch: loss, gradients and weights do not depend on how the work is spread.

Every parameter's gradient is compared. A loss and a global norm hide much: dropping the sum over
tensor-parallel ranks in latent attention spoils gradients by 10 to 20% and moves the norm by 2e-5.
"""

import math
from dataclasses import replace
from functools import cache

import pytest
import torch

from r1mega.config.head import HeadConfig
from tests.invariance.steps import Case, Outcome, Shard, relative_distance, train_under, whole, worst
from tests.ranks import run_ranks

BOUND = 1e-4
PP2_EP2 = {"pipeline_parallel": 2, "expert_parallel": 2}

WHOLE, FEW = HeadConfig(logits="whole"), HeadConfig(max_logits_mib=0.01)  # FEW: 10 of 128 tokens, 20 under TP2

REFERENCES = {
    "joint": Case(micro_batch_tokens=10_000),  # everything in one pack
    "detached": Case(micro_batch_tokens=10_000, mtp="detached", reduction="per_token"),
}
CASES = {
    1: {
        "one sequence a pack": Case(micro_batch_tokens=1),
        "packs of 128 tokens": Case(),
        "full recompute": Case(recompute="full"),
        "selective recompute": Case(recompute="selective"),
        "whole logits": Case(head=WHOLE),
        "logits of a few tokens at a time": Case(head=FEW),
    },
    2: {
        "DP2": Case({"data_parallel": 2}),
        "EP2": Case({"data_parallel": 2, "expert_parallel": 2}),
        "EP2, one sequence a pack": Case({"data_parallel": 2, "expert_parallel": 2}, micro_batch_tokens=1),
        "TP2": Case({"tensor_parallel": 2}),
        "TP2, whole logits": Case({"tensor_parallel": 2}, head=WHOLE),
        "TP2, logits of a few tokens at a time": Case({"tensor_parallel": 2}, head=FEW),
        "DP2 ETP2": Case({"data_parallel": 2, "expert_tensor_parallel": 2}),  # experts are cut, nothing else is
        "TP2 ETP2": Case({"tensor_parallel": 2, "expert_tensor_parallel": 2}),
        "TP2 EP2": Case({"tensor_parallel": 2, "expert_parallel": 2}),
        "PP2": Case({"pipeline_parallel": 2}),
        "PP2 VPP2": Case({"pipeline_parallel": 2, "virtual_stages": 2}),
        # as many packs as stages: the first stage's warm-up holds them all
        "PP2 VPP2, two packs": Case({"pipeline_parallel": 2, "virtual_stages": 2}, micro_batch_tokens=200),
    },
    4: {
        "TP2 PP2 EP2": Case({"tensor_parallel": 2, **PP2_EP2}),
        "TP2 EP2 ETP2": Case(
            {"tensor_parallel": 2, "data_parallel": 2, "expert_parallel": 2, "expert_tensor_parallel": 2}),
        "TP2 DP2 EP4": Case({"tensor_parallel": 2, "data_parallel": 2, "expert_parallel": 4}),
        "PP2 VPP2 EP2": Case({"virtual_stages": 2, "data_parallel": 2, **PP2_EP2}),
        "PP4": Case({"pipeline_parallel": 4}),  # two stages in the middle
        "TP2 PP2 EP2, full recompute, detached MTP": Case(
            {"tensor_parallel": 2, **PP2_EP2}, mtp="detached", reduction="per_token", recompute="full"),
    },
}


@cache
def references() -> dict[str, Outcome]:
    """On one rank, by kind of MTP."""
    return dict(zip(REFERENCES, run_ranks(train_under, 1, list(REFERENCES.values()))[0], strict=True))


@pytest.mark.parametrize("num_ranks", CASES)
def test_loss_gradients_and_weights_agree_with_one_rank_and_one_pack(num_ranks: int):
    cases = CASES[num_ranks]
    by_rank = run_ranks(train_under, num_ranks, list(cases.values()), timeout=300)
    wrong = []
    for (name, case), outcomes in zip(cases.items(), zip(*by_rank, strict=True), strict=True):
        reached = _distances(outcomes, references()[case.mtp])
        print(f"{name}: " + ", ".join(f"{what} {value:.1e}" for what, (value, _) in reached.items()))
        wrong += [f"{name}: {what} {value:.1e} {where}" for what, (value, where) in reached.items()
                  if not value < BOUND]
    assert not wrong, "\n".join(wrong)


def test_the_steps_exercise_what_they_are_meant_to():
    for reference in references().values():
        assert reference.num_packs == 1
        assert 0 < reference.sums[0]["clipped"] < reference.sums[0]["tokens"]
        assert reference.losses[1] < reference.losses[0] and reference.mtp_losses[1] < reference.mtp_losses[0]
        gradients, weights = whole([reference.gradients])[0], whole([reference.weights])[0]
        assert [name for name, gradient in gradients.items() if not gradient.any()] == []
        biases = [value for name, value in weights.items() if name.endswith("expert_bias")]
        assert len(biases) == 4 and all(bias.any() for bias in biases)


def _distances(outcomes: tuple[Outcome, ...], expected: Outcome) -> dict[str, tuple[float, str]]:
    """How far apart at most, and where: of both steps' losses and norms, of every parameter, and of its copies."""
    reached = {
        "loss": (worst([_relative(rank.losses + rank.mtp_losses, expected.losses + expected.mtp_losses)
                        for rank in outcomes]), ""),
        "grad norm": (worst([_relative(rank.grad_norms, expected.grad_norms) for rank in outcomes]), ""),
    }
    for kind in ("gradients", "weights"):
        ours, copies = whole([getattr(rank, kind) for rank in outcomes])
        theirs, _ = whole([getattr(expected, kind)])
        assert ours.keys() == theirs.keys()
        apart = {name: relative_distance(ours[name], theirs[name]) for name in theirs}
        for what, values in ((kind, apart), (f"copies of {kind}", copies)):
            farthest = worst(list(values.values()))
            reached[what] = farthest, next(name for name in values if worst([values[name]]) == farthest)
    return reached


def _relative(values: list[float], expected: list[float]) -> float:
    return worst([abs(a - b) / abs(b) if a != b else 0.0 for a, b in zip(values, expected, strict=True)])


@pytest.mark.parametrize("where", ["losses", "grad_norms", "gradients", "weights"])
@pytest.mark.parametrize("rank", [0, 1])
def test_a_nan_anywhere_is_too_far(where: str, rank: int):
    clean = Outcome(losses=[1.0, 1.0], mtp_losses=[1.0, 1.0], grad_norms=[1.0, 1.0], sums=[], num_packs=1,
                    gradients=[_piece("a", 1.0), _piece("b", 1.0)], weights=[_piece("a", 1.0), _piece("b", 1.0)])
    spoiled = {"losses": [1.0, math.nan], "grad_norms": [1.0, math.nan]}.get(
        where, [_piece("a", 1.0), _piece("b", math.nan)])
    outcomes = [clean, clean]
    outcomes[rank] = replace(clean, **{where: spoiled})
    assert max(value for value, _ in _distances((clean, clean), clean).values()) == 0
    assert [value for value, _ in _distances(tuple(outcomes), clean).values() if not value < BOUND]


def _piece(name: str, value: float) -> Shard:
    return Shard(name, torch.full((2,), value), 0, 1, None, False)

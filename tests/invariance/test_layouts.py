"""One set of initial weights, one batch: loss, gradients and weights do not depend on how the work is spread.

Every parameter's gradient is compared. A loss and a global norm hide much: dropping the sum over
tensor-parallel ranks in latent attention spoils gradients by 10 to 20% and moves the norm by 2e-5.
"""

from functools import cache

import pytest

from r1mega.config.head import HeadConfig
from tests.invariance.steps import Case, Outcome, relative_distance, train_under, whole
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
        "TP2 ETP2": Case({"tensor_parallel": 2, "expert_tensor_parallel": 2}),
        "TP2 EP2": Case({"tensor_parallel": 2, "expert_parallel": 2}),
        "PP2": Case({"pipeline_parallel": 2}),
        "PP2 VPP2": Case({"pipeline_parallel": 2, "virtual_stages": 2}),
        # as many packs as stages: the first stage's warm-up holds them all
        "PP2 VPP2, two packs": Case({"pipeline_parallel": 2, "virtual_stages": 2}, micro_batch_tokens=200),
    },
    4: {
        "TP2 PP2 EP2": Case({"tensor_parallel": 2, **PP2_EP2}),
        "TP2 DP2 EP4": Case({"tensor_parallel": 2, "data_parallel": 2, "expert_parallel": 4}),
        "PP2 VPP2 EP2": Case({"virtual_stages": 2, "data_parallel": 2, **PP2_EP2}),
        "TP2 PP2 EP2, detached MTP": Case({"tensor_parallel": 2, **PP2_EP2}, mtp="detached",
                                          reduction="per_token"),
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
        "loss": (max(_relative(rank.losses + rank.mtp_losses, expected.losses + expected.mtp_losses)
                     for rank in outcomes), ""),
        "grad norm": (max(_relative(rank.grad_norms, expected.grad_norms) for rank in outcomes), ""),
    }
    for kind in ("gradients", "weights"):
        ours, copies = whole([getattr(rank, kind) for rank in outcomes])
        theirs, _ = whole([getattr(expected, kind)])
        assert ours.keys() == theirs.keys()
        apart = {name: relative_distance(ours[name], theirs[name]) for name in theirs}
        for what, values in ((kind, apart), (f"copies of {kind}", copies)):
            worst = max(values, key=lambda name: values[name])
            reached[what] = (values[worst], worst)
    return reached


def _relative(values: list[float], expected: list[float]) -> float:
    return max(abs(a - b) / abs(b) for a, b in zip(values, expected, strict=True))

"""The reward model's head: its losses by hand, and the same gradients under every layout."""

import math
import random

import pytest
import torch

from r1mega.config import LayoutConfig
from r1mega.config.training import OptimizerConfig, TrainConfig
from r1mega.model import PolicySettings, build_policy
from r1mega.model.scalar_head import PreferenceObjective, add_scalar_head, judged, last_tokens, losses
from r1mega.parallel import Groups
from r1mega.record import TrainSample
from tests.invariance.steps import MODEL, relative_distance, whole
from tests.ranks import run_ranks

SCORES = torch.tensor([2.0, 0.5, -1.0, 1.0])  # two pairs, 1.5 apart the right way and 2 the wrong way
SAFE = torch.tensor([1.0, 1.0, 0.0, 0.0])


def test_the_losses_worked_by_hand():
    """-log sigmoid(1.5) = log(1 + e^-1.5) = log 1.22313 = 0.20141, -log sigmoid(-2) = log(1 + e^2) = log 8.38906 =
    2.12693; of single replies log(1 + e^-2) = 0.12693, log(1 + e^-0.5) = 0.47408, log(1 + e^-1) = 0.31326 (unsafe, and
    below 0) and log(1 + e) = 1.31326 (unsafe, and above)."""
    assert losses("pairwise", SCORES, None).tolist() == pytest.approx([0.20141, 0, 2.12693, 0], abs=1e-5)
    assert losses("pointwise", SCORES, SAFE).tolist() == pytest.approx([0.12693, 0.47408, 0.31326, 1.31326], abs=1e-5)
    pairs, labels = judged("pairwise", SCORES, SAFE), judged("pointwise", SCORES, SAFE)
    assert (pairs["right"], pairs["margin"]) == (1, -0.5)  # 1.5 - 2
    assert (labels["right"], labels["margin"]) == (3, 2.5)  # 2 + 0.5 + 1 - 1
    assert judged("pairwise", torch.ones(2), SAFE)["right"] == 0.5


@pytest.mark.parametrize("kind", ["pairwise", "pointwise"])
def test_losses_and_gradients_agree_with_the_formulas_in_fp64(kind: str):
    draw = random.Random(3)
    values = [draw.gauss(0, 4) for _ in range(40)] + [90.0, -90.0]  # e^90 overflows fp32
    scores = torch.tensor(values, dtype=torch.float32, requires_grad=True)
    safe = torch.tensor([float(draw.random() < 0.5) for _ in values])
    found = losses(kind, scores, safe)
    found.sum().backward()
    exact = scores.detach().double().tolist()
    if kind == "pairwise":
        margins = [exact[at] - exact[at + 1] for at in range(0, len(exact), 2)]
        slopes = [slope for margin in margins for slope in (-1 / (1 + math.exp(margin)), 1 / (1 + math.exp(margin)))]
    else:
        signs = [1 if label else -1 for label in safe.tolist()]
        margins = [sign * score for sign, score in zip(signs, exact, strict=True)]
        slopes = [-sign / (1 + math.exp(margin)) for sign, margin in zip(signs, margins, strict=True)]
    expected = [math.log1p(math.exp(-abs(margin))) + max(-margin, 0) for margin in margins]
    assert found[:: 2 if kind == "pairwise" else 1].tolist() == pytest.approx(expected, rel=1e-5, abs=1e-30)
    assert scores.grad.tolist() == pytest.approx(slopes, rel=1e-5, abs=1e-30)


def units() -> list[list[TrainSample]]:
    """Nine pairs of many lengths."""
    draw = random.Random(5)

    def sample(number: int) -> TrainSample:
        ids = [draw.randrange(MODEL.vocab_size) for _ in range(draw.randint(2, 24))]
        return TrainSample(ids, bytes(len(ids)), per_sample={"safe": float(number % 3 == 0)})

    return [[sample(2 * number), sample(2 * number + 1)] for number in range(9)]


def train_under(layouts: list[dict], kind: str) -> list[tuple]:
    """Of each layout: losses and norms of two steps, the held-out sums, and this rank's weights after them."""
    import logging

    from r1mega.parallel import start, stop

    logging.disable(logging.WARNING)
    outcomes = []
    for layout in layouts:
        outcomes.append(_train(start(LayoutConfig(**layout), seed=0), kind))
        stop()
    return outcomes


def _train(groups: Groups, kind: str) -> tuple:
    from r1mega.stage.packs import replica_unit_packs
    from r1mega.training.learner import Learner, score_packs
    from tests.invariance.steps import _shards

    train = TrainConfig(steps=2, precision="fp32", micro_batch_tokens=64, mtp="off", sequence_balance_weight=0.05)
    chunks = build_policy(MODEL, groups, PolicySettings.of(train), seed=1)
    add_scalar_head(chunks, kind)
    for chunk in chunks:
        if chunk.post_process:  # at zero the trunk would have no gradient in the first step
            torch.nn.init.normal_(getattr(chunk.scalar_head, kind), std=0.1,
                                  generator=torch.Generator().manual_seed(1))
    learner = Learner(chunks, groups, OptimizerConfig(lr=1e-3), train)
    packs = replica_unit_packs(units(), 64, 0, groups)
    objective = PreferenceObjective(kind, 9 if kind == "pairwise" else 18)
    results = [learner.step(packs, objective, update, 2) for update in (1, 2)]
    scores = [scored[last_tokens(pack)].tolist() for pack, scored in
              zip(packs, score_packs(chunks, packs, groups), strict=True)]
    shards = _shards(learner, groups, gradient=False)
    return ([result.loss for result in results], [result.grad_norm for result in results],
            dict(results[1].sums), shards, [score for pack in scores for score in pack], groups.dp_rank)


LAYOUTS = {"DP2": {"data_parallel": 2}, "EP2": {"data_parallel": 2, "expert_parallel": 2},
           "TP2": {"tensor_parallel": 2}, "PP2": {"pipeline_parallel": 2},
           "PP2 VPP2": {"pipeline_parallel": 2, "virtual_stages": 2}}


def test_loss_weights_and_scores_are_the_same_under_every_layout():
    (expected,) = train_under([{}], "pairwise")
    assert expected[0][1] < expected[0][0] and 0 < expected[2]["right"] <= 9
    theirs, _ = whole([expected[3]])
    assert "scalar_head.pairwise" in theirs
    by_rank = run_ranks(train_under, 2, list(LAYOUTS.values()), "pairwise")
    for name, outcomes in zip(LAYOUTS, zip(*by_rank, strict=True), strict=True):
        ours, copies = whole([rank[3] for rank in outcomes])
        assert ours.keys() == theirs.keys(), name
        assert max(relative_distance(ours[key], theirs[key]) for key in theirs) < 1e-4, name
        assert max(copies.values()) < 1e-6, name
        for rank in outcomes:
            assert rank[0] == pytest.approx(expected[0], rel=1e-5), name
            assert rank[1] == pytest.approx(expected[1], rel=1e-4), name
            assert rank[2] == pytest.approx(expected[2], rel=1e-4), name
        scores = [score for rank in {rank[5]: rank for rank in outcomes}.values() for score in rank[4]]
        assert sorted(scores) == pytest.approx(sorted(expected[4]), rel=1e-3, abs=1e-4), name


@pytest.fixture
def chunks(groups: Groups) -> list:
    made = build_policy(MODEL, groups, PolicySettings(), seed=1)
    add_scalar_head(made, "pointwise")
    return made


def test_a_score_is_the_head_times_the_last_token_and_knows_nothing_of_other_sequences(chunks: list, groups: Groups):
    from r1mega.stage.packs import replica_unit_packs
    from r1mega.training.learner import score_packs

    (chunk,) = chunks
    chunk.scalar_head.pointwise.data.normal_(generator=torch.Generator().manual_seed(2))
    seen: list[torch.Tensor] = []
    chunk.decoder.register_forward_hook(lambda module, args, output: seen.append(output.detach()))
    (together,) = replica_unit_packs(units(), 1000, 0, groups)
    (scored,) = score_packs(chunks, [together], groups)
    ends = last_tokens(together)
    assert ends.tolist() == [end - 1 for end in together.cu_seqlens.tolist()[1:19]]
    by_hand = seen[0][ends, 0].double() @ chunk.scalar_head.pointwise.detach().double()
    torch.testing.assert_close(scored[ends].double(), by_hand, rtol=1e-5, atol=1e-5)
    alone = replica_unit_packs([units()[4]], 1000, 0, groups)
    (scores,) = score_packs(chunks, alone, groups)
    torch.testing.assert_close(scores[last_tokens(alone[0])], scored[ends][8:10], rtol=1e-4, atol=1e-5)
    assert scored.count_nonzero() == 18


def test_in_bf16_the_head_stays_fp32_and_every_master_weight_is_saved_under_its_own_name(groups: Groups):
    from r1mega.stage.packs import replica_unit_packs
    from r1mega.training.checkpoint.optimizer_state import sharded_optimizer_state
    from r1mega.training.learner import Learner

    train = TrainConfig(steps=2, precision="bf16", micro_batch_tokens=64, mtp="off")
    chunks = build_policy(MODEL, groups, PolicySettings.of(train), seed=1)
    add_scalar_head(chunks, "pairwise")
    learner = Learner(chunks, groups, OptimizerConfig(lr=1e-2), train)
    packs = replica_unit_packs(units(), 64, 0, groups)
    for update in (1, 2):
        assert learner.step(packs, PreferenceObjective("pairwise", 9), update, 2).applied
    masters = {shard.key: shard.data for shard in
               sharded_optimizer_state(learner.optimizer, learner.wrapped, groups).values()}
    (chunk,) = chunks
    head, norm = chunk.scalar_head.pairwise, chunk.decoder.final_layernorm.weight
    assert (head.dtype, norm.dtype) == (torch.float32, torch.bfloat16) and head.any()
    assert masters["master.scalar_head.pairwise"].equal(head.detach())
    assert masters["master.decoder.final_layernorm.weight"].bfloat16().equal(norm.detach())
    assert not any("output_layer" in key or key.startswith("master.mtp") for key in masters)

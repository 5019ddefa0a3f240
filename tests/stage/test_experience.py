"""From judged rollouts to what the learner gets, on one rank with the real policy."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from r1mega.config import Recipe, UserError, load_recipe
from r1mega.model import PolicySettings, build_policy
from r1mega.parallel import start, stop
from r1mega.record import Completion, Problem, Rollout, RolloutGroup, Score
from r1mega.rollout import Engine, Sampling
from r1mega.stage.bench import Bench, Progress, copy_weights
from r1mega.stage.experience import GrpoObjective, build_mini_batches, train_samples
from r1mega.stage.rl import count_updates, replace_reference, update_metrics
from r1mega.training.learner import Learner, StepResult, score_packs
from tests.rollout.layouts import requests

ROOT = Path(__file__).parents[2]
TINY = ["layout={tensor_parallel=1}", "model.num_layers=2", "model.vocab_size=256", "rollout.problems_per_step=2"]


class _Tokenizer:
    pad_id = 0


class _Prepared:
    tokenizer = _Tokenizer()


def recipe(*overrides: str) -> Recipe:
    return load_recipe(ROOT / "configs/tiny/zero.toml", [*TINY, "start.recipe=none", *overrides])


@pytest.fixture
def bench(request: pytest.FixtureRequest):
    chosen = recipe(*getattr(request, "param", ()))
    groups = start(chosen.layout, seed=0)
    try:
        chunks = build_policy(chosen.model, groups, PolicySettings.of(chosen.train, chosen.head), seed=1)
        reference = build_policy(chosen.model, groups, seed=2)
        learner = Learner(chunks, groups, chosen.optimizer, chosen.train)
        yield Bench(chosen, Path("run"), groups, _Prepared(), learner, reference, store=None, console=None, log=None)
    finally:
        stop()


def sampled_groups(bench: Bench, rewards: list[list[float]]) -> list[RolloutGroup]:
    """Groups whose completions the policy itself has sampled, with these rewards."""
    engine = Engine(bench.learner.chunks, bench.groups, bench.recipe.model, 8)
    groups = []
    for number, totals in enumerate(rewards):
        asked = [replace(request, seed=1000 * number + i) for i, request in enumerate(requests(len(totals)))]
        completions = engine.generate(asked, Sampling(max_new_tokens=6))
        problem = Problem("t", f"question {number}", "0")
        groups.append(RolloutGroup(problem, tuple(
            Rollout(problem, i, asked[i].prompt_ids, completions[i], "", Score(total, {}, {}))
            for i, total in enumerate(totals))))
    return groups


def test_samples_carry_their_groups_advantage_and_their_own_log_probs():
    # rewards 3 and 1: mean 2, std 1, advantages 1 and -1; equal rewards: 0
    def rollout(problem: Problem, index: int, total: float) -> Rollout:
        completion = Completion((7, 8), (-0.5, -0.25 * (index + 1)), "stop")
        return Rollout(problem, index, (5, 6, 4), completion, "", Score(total, {}, {}))

    groups = [RolloutGroup(problem, tuple(rollout(problem, i, total) for i, total in enumerate(totals)))
              for problem, totals in ((Problem("t", "a", "1"), (3.0, 1.0)), (Problem("t", "b", "1"), (2.0, 2.0)))]
    samples = train_samples(groups, recipe().algorithm)
    assert [round(sample.per_sample["advantage"], 5) for sample in samples] == [1.0, -1.0, 0.0, 0.0]
    assert [*samples[1].token_ids] == [5, 6, 4, 7, 8] and [*samples[1].loss_mask] == [0, 0, 0, 1, 1]
    assert [*samples[1].per_token["sampler_log_probs"]] == [0, 0, 0, -0.5, -0.5]


@pytest.mark.parametrize("bench", [("algorithm.old_log_probs=trainer",), ("algorithm.old_log_probs=sampler",)],
                         indirect=True)
def test_old_log_probs_of_the_trainer_and_of_the_sampler_are_the_same_to_rounding(bench: Bench):
    groups = sampled_groups(bench, [[1.0, 0.0, 0.0], [0.0, 1.0, 1.0]])
    batches = build_mini_batches(bench, train_samples(groups, bench.recipe.algorithm), step=0)
    assert len(batches) == 2 and sum(batch.num_outputs for batch in batches) == 6
    tokens = sum(len(rollout.completion.token_ids) for group in groups for rollout in group.rollouts)
    assert sum(batch.num_tokens for batch in batches) == tokens
    for pack in (pack for batch in batches for pack in batch.packs):
        trained = pack.loss_mask > 0
        old, sampler = (pack.per_token[name][trained] for name in ("old_log_probs", "sampler_log_probs"))
        assert len(old) and (old < 0).all()
        torch.testing.assert_close(old, sampler, rtol=0, atol=1e-4)
        (ref,) = score_packs(bench.reference, [pack], bench.groups)
        assert torch.equal(pack.per_token["ref_log_probs"][trained], ref[trained])
        assert (ref[trained] - old).abs().max() > 0.01  # another model


def test_a_step_on_a_rollout_reports_the_gap_and_makes_good_outputs_likelier(bench: Bench):
    groups = sampled_groups(bench, [[1.0, 0.0, 0.0, 0.0]])
    samples = train_samples(groups, bench.recipe.algorithm)
    (good,) = (sample for sample in samples if sample.per_sample["advantage"] > 0)

    def log_prob_of_good() -> float:
        from r1mega.stage.packs import replica_packs

        (pack,) = replica_packs([good], 512, 0, bench.groups)
        return (score_packs(bench.learner.chunks, [pack], bench.groups)[0] * pack.loss_mask).sum().item()

    before = log_prob_of_good()
    results = []
    for batch in build_mini_batches(bench, samples, step=0):
        objective = GrpoObjective(batch, bench.recipe.algorithm, "reference")
        results.append(bench.update(batch.packs, objective, total_updates=10))
    assert log_prob_of_good() > before
    metrics = update_metrics(results)
    assert metrics["logprob_gap"] < 1e-4 and metrics["kl"] > 0 and metrics["entropy"] > 1
    assert metrics["ratio"] == pytest.approx(1, abs=0.5)


def test_metrics_of_an_update_are_weighted_by_tokens():
    def result(loss: float, tokens: float, kl: float, gap: float) -> StepResult:
        sums = {"tokens": tokens, "kl": kl, "entropy": 2 * tokens, "clipped": 0.0, "ratio": tokens, "gap": gap}
        return StepResult(loss, 0.0, 1.0, 0.1, True, 1.0, sums)

    metrics = update_metrics([result(1.0, 10, 5.0, 0.1), result(3.0, 30, 3.0, 9.0)])
    assert metrics["loss"] == 2.0 and metrics["kl"] == 8 / 40 and metrics["entropy"] == 2.0
    assert metrics["logprob_gap"] == 0.01  # of the first mini-batch: the policy that sampled


@pytest.mark.parametrize("bench", [("algorithm.reference_interval=2",)], indirect=True)
def test_the_reference_becomes_the_policy_every_so_many_steps(bench: Bench):
    def equal() -> bool:
        return all(torch.equal(ours, theirs) for ours, theirs in zip(
            bench.learner.chunks[0].parameters(), bench.reference[0].parameters(), strict=True))

    seen = []
    for step in (1, 2, 3):
        bench.progress.step = step
        if step == 3:
            with torch.no_grad():
                bench.learner.chunks[0].output_layer.weight.add_(1)
        replace_reference(bench)
        seen.append(equal())
    assert seen == [False, True, False]
    copy_weights(bench.learner.chunks, bench.reference)
    assert equal()


@pytest.mark.parametrize("bench", [("algorithm.max_empty_steps=2", "algorithm.drop_equal_groups=true")], indirect=True)
def test_steps_with_nothing_to_train_on_move_the_schedule_and_end_the_run(bench: Bench):
    bench.progress = Progress(step=3, updates=4)
    count_updates(bench, trained=False)
    assert bench.progress.updates == 6 and bench.progress.empty_in_a_row == 1
    count_updates(bench, trained=True)
    assert bench.progress.empty_in_a_row == 0
    count_updates(bench, trained=False)
    with pytest.raises(UserError, match="2 steps in a row.*drop_equal_groups.*rollout.group_size"):
        count_updates(bench, trained=False)

"""Stage rl: GRPO, as DeepSeek-R1-Zero was trained (arXiv 2501.12948, section 2)."""

import time
from collections.abc import Mapping, Sequence
from typing import Any

from r1mega.algorithm import drop_equal_groups
from r1mega.config import Recipe, UserError
from r1mega.record import RolloutGroup
from r1mega.rollout import Sampling
from r1mega.stage.bench import Bench, copy_weights
from r1mega.stage.evaluate import Evaluator
from r1mega.stage.experience import GrpoObjective, build_mini_batches, train_samples
from r1mega.stage.general_metrics import general_truth, mean_parts
from r1mega.stage.hacking import preference_mean, watch
from r1mega.stage.rl_data import step_problems
from r1mega.stage.rollouts import Collector, Timed
from r1mega.training.learner import StepResult
from r1mega.training.metrics import sample_record


def rl(bench: Bench) -> None:
    """Run the stage to its last step, or until asked to stop."""
    with Collector(bench) as collector, Evaluator(bench, collector) as evaluator:
        if bench.progress.step == 0 and bench.recipe.evaluation.at_start:
            evaluated = evaluator.evaluate()
            bench.finish_step(evaluated | alarm(bench, evaluated))
        while not bench.done:
            begun = time.monotonic()
            timed = sample_groups(bench, collector)
            kept, equal = drop_equal_groups(timed.groups)
            groups = kept if bench.recipe.algorithm.drop_equal_groups else timed.groups
            results, times = learn(bench, groups) if groups else ([], {})
            bench.progress.step += 1
            count_updates(bench, trained=bool(results))
            replace_reference(bench)
            show_samples(bench, timed.groups)
            metrics = rollout_metrics(timed, bench.recipe) | update_metrics(results) | times
            if bench.recipe.train.mtp == "off":
                metrics.pop("mtp_loss", None)
            metrics["groups_dropped"] = equal if bench.recipe.algorithm.drop_equal_groups else 0
            metrics["tokens_per_s"] = metrics["tokens"] / (time.monotonic() - begun)
            metrics |= evaluator.when_due()
            bench.finish_step(metrics | alarm(bench, metrics))


def sample_groups(bench: Bench, collector: Collector) -> Timed:
    """This step's problems, sampled and judged."""
    config, train = bench.recipe.rollout, bench.prepared.train
    numbers = step_problems(bench.recipe, train.problems, bench.progress.step)
    sampling = Sampling(temperature=config.temperature, top_p=config.top_p, top_k=config.top_k,
                        max_new_tokens=config.max_new_tokens, stop_ids=(bench.prepared.tokenizer.eos_id,))
    return collector.collect(train, numbers, config.group_size, bench.progress.step, sampling, "rollout")


def learn(bench: Bench, groups: Sequence[RolloutGroup]) -> tuple[list[StepResult], dict[str, float]]:
    """One inner epoch over the rollout, in mini-batches."""
    config, begun = bench.recipe.algorithm, time.monotonic()
    batches = build_mini_batches(bench, train_samples(groups, config), bench.progress.step)
    scored = time.monotonic()
    results = []
    for number, batch in enumerate(batches):
        bench.phase("train", number, len(batches), "mini-batches")
        total_updates = bench.recipe.train.steps * config.mini_batches
        objective = GrpoObjective(batch, config, bench.recipe.head.implementation)
        results.append(bench.update(batch.packs, objective, total_updates))
    return results, {"logprob_s": scored - begun, "train_s": time.monotonic() - scored}


def count_updates(bench: Bench, trained: bool) -> None:
    """Keep the schedule in step, and end a run that has stopped learning: every group of every step was left out."""
    progress, config = bench.progress, bench.recipe.algorithm
    progress.updates = progress.step * config.mini_batches  # a step with little or nothing to train on counts as others
    progress.empty_in_a_row = 0 if trained else progress.empty_in_a_row + 1
    if progress.empty_in_a_row >= config.max_empty_steps:
        raise UserError(
            f"{bench.run_dir}: in {progress.empty_in_a_row} steps in a row all rewards of every group were equal, so "
            "nothing was trained on (algorithm.drop_equal_groups, .max_empty_steps); raise rollout.group_size, "
            "or take easier or harder problems")


def replace_reference(bench: Bench) -> None:
    """Every so many steps the reference becomes the policy."""
    interval = bench.recipe.algorithm.reference_interval
    if bench.reference is not None and interval and bench.progress.step % interval == 0:
        copy_weights(bench.learner.chunks, bench.reference)


def alarm(bench: Bench, metrics: Mapping[str, Any]) -> dict[str, Any]:
    """The alarm's metric, where it was looked for; a message if it rang, and the end of the run if the recipe wants."""
    config = bench.recipe.reward.preference
    if config is None:
        return {}
    found, messages = watch(bench.progress.watched, config, {**metrics, "step": bench.progress.step})
    for message in messages:
        bench.message(message)
    if messages and config.on_alarm == "stop":
        bench.stop_asked = True
        bench.message('the run ends here (reward.preference.on_alarm="stop"; with "warn" the same command goes on)')
    return found


def rollout_metrics(timed: Timed, recipe: Recipe) -> dict[str, Any]:
    """What the rollout shows, over all its completions."""
    rollouts = [rollout for group in timed.groups for rollout in group.rollouts]
    count = len(rollouts)
    parts = {f"reward_{name}": value for name, value in mean_parts(rollouts).items()}
    config = recipe.reward.preference
    preferred = preference_mean(mean_parts(rollouts), {} if config is None else config.weights)
    if preferred is not None:
        parts["reward_preference"] = preferred
    passed = {"pass_rate": parts["reward_accuracy"]} if "reward_accuracy" in parts else {}
    tokens = sum(len(r.completion.token_ids) for r in rollouts)
    return {"reward": sum(r.score.total for r in rollouts) / count, **parts, **passed,
            **general_truth(timed.groups, recipe.tokenizer.template),
            "response_tokens": tokens / count, "tokens": tokens,
            "truncated": sum(r.completion.finish == "length" for r in rollouts) / count,
            "rollout_s": timed.rollout_s, "reward_s": timed.reward_s}


def update_metrics(results: Sequence[StepResult]) -> dict[str, Any]:
    """Means over the step's mini-batches (by token where the figure is one of tokens)."""
    if not results:
        return {}
    tokens = max(1.0, sum(result.sums["tokens"] for result in results))
    first = results[0].sums  # the policy it was scored by is still the one that sampled

    def per_token(name: str) -> float:
        return sum(result.sums[name] for result in results) / tokens

    def mean(name: str) -> float:
        return sum(getattr(result, name) for result in results) / len(results)

    return {"loss": mean("loss"), "mtp_loss": mean("mtp_loss"), "grad_norm": mean("grad_norm"), "lr": results[-1].lr,
            "expert_imbalance": mean("expert_imbalance"), "kl": per_token("kl"), "entropy": per_token("entropy"),
            "clip_fraction": per_token("clipped"), "ratio": per_token("ratio"),
            "logprob_gap": first["gap"] / max(1.0, first["tokens"])}


def show_samples(bench: Bench, groups: Sequence[RolloutGroup]) -> None:
    """A few completions to samples.jsonl and the live view."""
    shown = [group.rollouts[0] for group in groups[:bench.recipe.log.samples_per_step]]
    if bench.log is not None and shown:
        bench.log.samples(bench.progress.step, [sample_record(rollout, "train") for rollout in shown])
        bench.console.sample(shown[0].problem.question, shown[0].text, shown[0].score.total)

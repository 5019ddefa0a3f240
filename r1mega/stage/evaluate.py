"""pass@1 on held-out problems: the mean over samples, with its confidence interval."""

import time
from collections.abc import Sequence
from typing import Any

from r1mega.config.data import ChatTemplate
from r1mega.record import RolloutGroup
from r1mega.rollout import Sampling
from r1mega.stage.bench import Bench
from r1mega.stage.general_metrics import heldout_general, mean_and_half_width
from r1mega.stage.rollouts import Collector
from r1mega.training.metrics import sample_record


class Evaluator:
    """Evaluates when the recipe says so. A context manager; makes a collector of its own unless it is given one."""

    def __init__(self, bench: Bench, collector: Collector | None = None):
        self.bench, self.collector, self.owned = bench, collector, collector is None

    def __enter__(self) -> "Evaluator":
        if self.owned and self.bench.recipe.rollout is not None:
            self.collector = Collector(self.bench).__enter__()
        return self

    def __exit__(self, *error: Any) -> None:
        if self.owned and self.collector is not None:
            self.collector.__exit__(*error)

    def when_due(self) -> dict[str, Any]:
        """Metrics of an evaluation after the step just finished, or nothing."""
        config, step = self.bench.recipe.evaluation, self.bench.progress.step
        last = step >= self.bench.recipe.train.steps
        if (config.every and step % config.every == 0) or (last and config.at_end):
            return self.evaluate()
        return {}

    def evaluate(self) -> dict[str, Any]:
        """Sample and judge every held-out problem. Collective."""
        bench, recipe = self.bench, self.bench.recipe
        heldout = bench.prepared.heldout
        if self.collector is None or not heldout.problems:
            return {}
        begun = time.monotonic()
        config = recipe.evaluation
        sampling = Sampling(temperature=config.temperature, top_p=config.top_p,
                            max_new_tokens=recipe.rollout.max_new_tokens,
                            stop_ids=(bench.prepared.tokenizer.eos_id,))
        timed = self.collector.collect(
            heldout, range(len(heldout.problems)), config.samples, bench.progress.step, sampling, "evaluation")
        if bench.log is not None:
            shown = [group.rollouts[0] for group in timed.groups[:recipe.log.samples_per_step]]
            bench.log.samples(bench.progress.step, [sample_record(rollout, "heldout") for rollout in shown])
        return heldout_metrics(timed.groups, recipe.tokenizer.template) | {"evaluate_s": time.monotonic() - begun}


def heldout_metrics(groups: Sequence[RolloutGroup], template: ChatTemplate) -> dict[str, float]:
    """Of problems with a right answer: pass@1 and its 95% interval, from the spread over problems (samples of one
    problem are not independent). General prompts have metrics of their own."""
    general = heldout_general([group for group in groups if group.problem.scorer == "preference"], template)
    groups = [group for group in groups if group.problem.scorer != "preference"]
    if not groups:
        return general
    rates = [sum(r.score.parts["accuracy"] for r in group.rollouts) / len(group.rollouts) for group in groups]
    rollouts = [rollout for group in groups for rollout in group.rollouts]
    mean, half = mean_and_half_width(rates)
    language = [r.score.parts["language"] for r in rollouts if "language" in r.score.parts]
    return {
        "heldout_pass_at_1": mean, "heldout_pass_at_1_low": max(0.0, mean - half),
        "heldout_pass_at_1_high": min(1.0, mean + half), "heldout_problems": len(groups),
        "heldout_samples": len(rollouts) // len(groups),
        "heldout_format": sum(r.score.parts["format"] for r in rollouts) / len(rollouts),
        "heldout_response_tokens": sum(len(r.completion.token_ids) for r in rollouts) / len(rollouts),
        **({"heldout_language": sum(language) / len(language)} if language else {}), **general}

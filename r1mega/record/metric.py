"""The metrics of a run: their names, their meaning, and the files they lie in. Scripts read these."""

import json
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

from r1mega.config.error import UserError

METRICS_FILE = "metrics.jsonl"
SAMPLES_FILE = "samples.jsonl"
ENVIRONMENT_FILE = "environment.json"
RECIPE_FILE = "recipe.toml"
TENSORBOARD_FOLDER = "tensorboard"


class Metric(NamedTuple):
    """How a metric is shown. `kind` is one of `metric_text.number`'s, or "text"."""

    label: str
    kind: str
    meaning: str


METRICS: Mapping[str, Metric] = MappingProxyType({
    "step": Metric("step", "count", "optimizer phases done when the line was written; 0 before the first"),
    "stage": Metric("stage", "text", "pretrain, sft, preference, rl or rejection_sampling"),
    "wall_s": Metric(
        "step time", "seconds",
        "seconds since the line before (the first: since the start); their sum is the run's time"),
    "tokens": Metric("tokens", "count", "tokens trained on in this step, over all ranks; in RL, tokens sampled"),
    "tokens_per_s": Metric("tokens/s", "count", "tokens over the seconds of the step"),
    "loss": Metric("loss", "small", "the loss that was minimised, mean over the step"),
    "epoch": Metric("epoch", "number", "passes over the mix of samples done, in supervised fine-tuning"),
    "samples": Metric("samples", "count", "samples trained on in this step, or sampled for a dataset"),
    "preference_accuracy": Metric(
        "judgements met", "percent",
        "share of the step's pairs whose chosen reply scored higher, or of replies on the right side of 0"),
    "preference_margin": Metric("margin", "number", "how far the chosen reply scored above the rejected one, mean"),
    "teacher_kl": Metric("teacher's KL", "small", "KL(teacher || student) at sft.teacher.temperature, a token's mean"),
    "mtp_loss": Metric("MTP loss", "number", "loss of the multi-token-prediction layer, before its weight"),
    "grad_norm": Metric("gradient norm", "number", "norm of the gradient before clipping"),
    "lr": Metric("learning rate", "small", "learning rate"),
    "bad_steps": Metric("bad steps", "count", "steps skipped so far for a non-finite loss or gradient"),
    "failed_checkpoints": Metric("failed checkpoints", "count", "checkpoints this process could not write"),
    "expert_imbalance": Metric(
        "expert imbalance", "number",
        "tokens of the busiest expert over the mean of all experts; 1 is even"),
    "reward": Metric("reward", "number", "mean total reward of the rollout"),
    "reward_accuracy": Metric("reward: accuracy", "number", "mean, unweighted; so for every reward_<part>"),
    "reward_format": Metric("reward: format", "number", "mean of the part, unweighted"),
    "pass_rate": Metric(
        "pass rate", "percent", "share with a right answer of the completions of problems that have one"),
    "language": Metric("language", "percent", "mean language consistency of samples made for a dataset"),
    "problems": Metric("problems", "count", "problems of a wave of rejection sampling"),
    "kept": Metric("kept", "count", "rows that a wave gave the dataset; so for every dropped_<reason>"),
    "kept_share": Metric("kept", "percent", "share of a wave's samples that became rows of the dataset"),
    "reward_helpfulness": Metric("reward: helpfulness", "number", "mean over general prompts, unweighted"),
    "reward_safety": Metric("reward: safety", "number", "mean over general prompts, unweighted"),
    "reward_preference": Metric(
        "reward: preference", "number", "the two parts above by their weights, over the weights' sum"),
    "hacking_alarm": Metric(
        "hacking alarm", "count",
        "1 if the preference reward has risen while something measured without reward models has fallen"),
    "general_helpful": Metric(
        "truly helpful", "percent", "of replies to generated requests, by a rule that no reward sees"),
    "general_harmless": Metric(
        "truly harmless", "percent", "share of replies to generated requests, by a rule that no reward sees"),
    "groups_dropped": Metric(
        "groups dropped", "count",
        "groups left out because all their rewards were equal"),
    "response_tokens": Metric("response length", "count", "mean length of a completion"),
    "truncated": Metric("truncated", "percent", "share of completions cut by the length limit"),
    "kl": Metric("KL", "small", "estimated KL(policy || reference), mean over tokens"),
    "entropy": Metric("entropy", "number", "mean entropy of the policy's next-token distribution, nats"),
    "clip_fraction": Metric("clipped", "percent", "share of tokens whose ratio was clipped"),
    "ratio": Metric("ratio", "number", "policy / old policy, mean over tokens"),
    "logprob_gap": Metric(
        "log-prob gap", "small",
        "mean |trainer's - sampler's log-prob| over sampled tokens"),
    "rollout_s": Metric("rollout", "seconds", "seconds of sampling"),
    "reward_s": Metric("reward", "seconds", "seconds of judging"),
    "logprob_s": Metric("log-probs", "seconds", "seconds of old-policy and reference log-probs"),
    "train_s": Metric("train", "seconds", "seconds of forward, backward and optimizer"),
    "evaluate_s": Metric("evaluate", "seconds", "seconds of the held-out evaluation"),
    "checkpoint_s": Metric("checkpoint", "seconds", "seconds the loop waited for checkpoints"),
    "heldout_pass_at_1": Metric(
        "held-out pass@1", "percent",
        "share of right answers on held-out problems, mean over samples"),
    "heldout_pass_at_1_low": Metric("95% low", "percent", "lower end of its 95% confidence interval"),
    "heldout_pass_at_1_high": Metric("95% high", "percent", "upper end of its 95% confidence interval"),
    "heldout_loss": Metric(
        "held-out loss", "number",
        "mean cross-entropy over the responses of held-out samples; so for every heldout_loss_<source>, "
        "loss_<source> and tokens_<source>"),
    "heldout_general_helpful": Metric(
        "held-out truly helpful", "percent",
        "as general_helpful, on held-out requests; with heldout_general_helpful_low and _high, its 95% interval"),
    "heldout_general_harmless": Metric(
        "held-out truly harmless", "percent", "as general_harmless, on held-out requests, with its interval likewise"),
    "heldout_reward_helpfulness": Metric("held-out helpfulness reward", "number", "mean on held-out general prompts"),
    "heldout_reward_safety": Metric("held-out safety reward", "number", "mean on held-out general prompts"),
    "heldout_general_prompts": Metric("held-out general prompts", "count", "how many"),
    "heldout_preference_accuracy": Metric(
        "held-out judgements met", "percent", "as preference_accuracy, on held-out judgements"),
    "heldout_preference_accuracy_low": Metric("95% low", "percent", "lower end of its 95% confidence interval"),
    "heldout_preference_accuracy_high": Metric("95% high", "percent", "upper end of its 95% confidence interval"),
    "heldout_preference_margin": Metric("held-out margin", "number", "as preference_margin, on held-out judgements"),
    "heldout_preference_loss": Metric("held-out loss", "number", "mean loss of held-out judgements"),
    "heldout_format": Metric("held-out format", "percent", "mean format reward on held-out problems"),
    "heldout_language": Metric("held-out language", "percent", "mean language consistency on held-out problems"),
    "heldout_response_tokens": Metric("held-out length", "count", "mean length of a held-out completion"),
    "heldout_problems": Metric("held-out problems", "count", "how many held-out problems"),
    "heldout_samples": Metric("samples each", "count", "samples of each"),
})

PHASES = ("rollout_s", "reward_s", "logprob_s", "train_s", "evaluate_s", "checkpoint_s")
TIME_FIELDS = frozenset({"wall_s", "tokens_per_s", *PHASES})
"""What the clock decides; every other field of a resumed run equals the uninterrupted run's."""


def read_jsonl(path: Path) -> list[dict[str, Any]]:
    """The objects of a JSONL file, each with an integer `step`. A last line cut short by a kill is left out.

    Raises:
        UserError: any other line that is not such an object; names file and line.
    """
    lines = path.read_bytes().removesuffix(b"\n").split(b"\n")
    records = []
    for number, line in enumerate(lines, 1):
        try:
            record = json.loads(line)
            if not isinstance(record, dict) or type(record.get("step")) is not int:
                raise ValueError("no object with an integer `step`")
        except ValueError as error:  # JSONDecodeError and UnicodeDecodeError are ValueErrors
            if number == len(lines):
                break
            raise UserError(f"{path}:{number}: damaged line ({error}); mend or remove that line") from None
        records.append(record)
    return records

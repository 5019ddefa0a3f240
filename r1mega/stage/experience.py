"""From judged rollouts to packs the learner can take: advantages, old and reference log-probs."""

from array import array
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from r1mega_kernels import Grpo, Implementation
from torch import Tensor

from r1mega.algorithm import group_advantages, grpo, loss_weights, mini_batches
from r1mega.config.rl import GrpoConfig
from r1mega.record import PackedBatch, RolloutGroup, TrainSample
from r1mega.stage.bench import Bench
from r1mega.stage.packs import replica_packs
from r1mega.training.learner import score_packs


@dataclass(frozen=True, slots=True)
class MiniBatch:
    """One optimizer step: this replica's packs, and the counts of the whole step."""

    packs: list[PackedBatch]
    num_outputs: int
    num_tokens: int


def train_samples(groups: Sequence[RolloutGroup], config: GrpoConfig) -> list[TrainSample]:
    """Every rollout as a sequence whose response is trained on, with its group advantage."""
    rewards_PG = torch.tensor([[r.score.total for r in group.rollouts] for group in groups], dtype=torch.float64)
    advantages_PG = group_advantages(rewards_PG, normalize_by_std=config.normalize_by_std)
    return [
        _sample(rollout.prompt_ids, rollout.completion.token_ids, rollout.completion.log_probs, advantage)
        for group, advantages_G in zip(groups, advantages_PG.tolist(), strict=True)
        for rollout, advantage in zip(group.rollouts, advantages_G, strict=True)]


def _sample(
    prompt: Sequence[int], response: Sequence[int], log_probs: Sequence[float], advantage: float
) -> TrainSample:
    before = len(prompt)
    return TrainSample(  # arrays: every rank makes all samples, and Python's own numbers take eight times more
        token_ids=array("i", [*prompt, *response]), loss_mask=bytes(before) + b"\1" * len(response),
        per_token={"sampler_log_probs": array("f", [0.0] * before + list(log_probs))},
        per_sample={"advantage": advantage})


def build_mini_batches(bench: Bench, samples: Sequence[TrainSample], step: int) -> list[MiniBatch]:
    """Split at random, pack, and fill in the log-probs the loss needs. Collective; every rank brings all samples."""
    recipe = bench.recipe
    config = recipe.algorithm
    parts = mini_batches(len(samples), config.mini_batches, seed=recipe.seed * 1_000_003 + step)
    built = []
    for part in parts:
        chosen = [samples[index] for index in part]
        packs = replica_packs(chosen, recipe.train.micro_batch_tokens, bench.prepared.tokenizer.pad_id, bench.groups)
        built.append(MiniBatch(packs, len(chosen), sum(sum(sample.loss_mask) for sample in chosen)))
    if config.old_log_probs == "sampler":
        built = [_with_old_from_sampler(batch) for batch in built]
    elif len(built) > 1:  # with one step a rollout, the old policy is the policy itself
        built = _with_log_probs(bench, built, bench.learner.chunks, "old_log_probs")
    if bench.reference is not None:
        built = _with_log_probs(bench, built, bench.reference, "ref_log_probs")
    return built


def _with_old_from_sampler(batch: MiniBatch) -> MiniBatch:
    packs = [replace(pack, per_token={**pack.per_token, "old_log_probs": pack.per_token["sampler_log_probs"]})
             for pack in batch.packs]
    return replace(batch, packs=packs)


def _with_log_probs(bench: Bench, batches: Sequence[MiniBatch], chunks: Sequence, name: str) -> list[MiniBatch]:
    """One pass over all packs of the rollout."""
    packs = [pack for batch in batches for pack in batch.packs]
    bench.phase(name.replace("_", " "), 0, len(packs), "packs")
    scored = iter(score_packs(chunks, packs, bench.groups, bench.recipe.rollout.temperature))
    return [replace(batch, packs=[replace(pack, per_token={**pack.per_token, name: next(scored)})
                                  for pack in batch.packs]) for batch in batches]


@dataclass(frozen=True)
class GrpoObjective:
    """GRPO on a mini-batch (an Objective)."""

    batch_of_step: MiniBatch
    config: GrpoConfig
    implementation: Implementation
    record_names = Grpo.record_names

    def token_loss(self, batch: PackedBatch, scale: float) -> Grpo:
        weights_T = loss_weights(batch, self.config, total_outputs=self.batch_of_step.num_outputs,
                                 total_tokens=self.batch_of_step.num_tokens)
        return grpo(batch, weights_T * scale, self.config, self.implementation)

    def sums(
        self, batch: PackedBatch, log_probs_T: Tensor, entropy_T: Tensor, records: Mapping[str, Tensor]
    ) -> Mapping[str, Tensor]:
        """Over trained tokens: their number, and `kl`, `clipped` (where a clip is active), `ratio` (policy / old),
        `entropy`, and `gap`, how far the sampler's log-probs were from the trainer's."""
        trained_T = batch.loss_mask > 0
        gap_T = (log_probs_T - batch.per_token["sampler_log_probs"]).abs()
        values = {**records, "entropy": entropy_T, "gap": gap_T}
        return {"tokens": trained_T.sum(), **{name: (values_T * trained_T).sum() for name, values_T in values.items()}}

"""Stage pretrain: next-token prediction, with MTP, on documents made from the problems."""

import random
import time
from collections.abc import Mapping
from dataclasses import dataclass

from r1mega_kernels import CrossEntropy
from torch import Tensor

from r1mega.data import problem_batch
from r1mega.data.corpus import document
from r1mega.record import PackedBatch, TrainSample
from r1mega.stage.bench import Bench
from r1mega.stage.evaluate import Evaluator
from r1mega.stage.packs import replica_packs


def pretrain(bench: Bench) -> None:
    """Run the stage to its last step, or until asked to stop."""
    with Evaluator(bench) as evaluator:
        if bench.progress.step == 0 and bench.recipe.evaluation.at_start:
            bench.finish_step(evaluator.evaluate())
        while not bench.done:
            begun = time.monotonic()
            samples = documents(bench, bench.progress.step)
            packs = replica_packs(samples, bench.recipe.train.micro_batch_tokens, bench.prepared.tokenizer.pad_id,
                                  bench.groups)
            num_targets = sum(sum(sample.loss_mask[1:]) for sample in samples)
            result = bench.update(packs, NextToken(num_targets), bench.recipe.train.steps)
            bench.progress.step += 1
            seconds = time.monotonic() - begun
            metrics = {"tokens": num_targets, "tokens_per_s": num_targets / seconds, "train_s": seconds,
                       "loss": result.loss, "mtp_loss": result.mtp_loss, "grad_norm": result.grad_norm,
                       "lr": result.lr, "expert_imbalance": result.expert_imbalance}
            bench.finish_step(metrics | evaluator.when_due())


def documents(bench: Bench, step: int) -> list[TrainSample]:
    """The documents of step `step` (from 0), the same on every rank."""
    prepared, recipe = bench.prepared, bench.recipe
    config = recipe.pretrain
    numbers = problem_batch(step, len(prepared.train.problems), config.documents_per_step, recipe.seed)
    samples = []
    for place, number in enumerate(numbers):
        rng = random.Random(f"{recipe.seed} {step} {place}")
        text = document(prepared.train.problems[number], config.styles, recipe.tokenizer.template, rng)
        ids = (*prepared.train.prompt_ids[number], *prepared.tokenizer.encode(text), prepared.tokenizer.eos_id)
        samples.append(TrainSample(token_ids=ids, loss_mask=(0, *[1] * (len(ids) - 1))))
    return samples


@dataclass(frozen=True)
class NextToken:
    """Mean cross-entropy over the targets of the whole step (an Objective)."""

    num_targets: int
    record_names = ()

    def token_loss(self, batch: PackedBatch, scale: float) -> CrossEntropy:
        return CrossEntropy(batch.loss_mask * (scale / self.num_targets))

    def sums(
        self, batch: PackedBatch, log_probs_T: Tensor, entropy_T: Tensor, records: Mapping[str, Tensor]
    ) -> Mapping[str, Tensor]:
        return {}

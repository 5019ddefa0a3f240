"""Stage sft: cross-entropy of the responses, over epochs of a mix of samples (arXiv 2501.12948, supplement)."""

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist
from r1mega_kernels import CrossEntropy
from torch import Tensor

from r1mega.data.sft_store import LABEL
from r1mega.model.distillation import Teaching
from r1mega.record import PackedBatch, TrainSample
from r1mega.stage.bench import Bench
from r1mega.stage.evaluate import Evaluator
from r1mega.stage.packs import replica_packs
from r1mega.stage.sft_data import describe, mix_of
from r1mega.stage.teacher import Lesson, load_teacher
from r1mega.training.learner import score_packs


def sft(bench: Bench) -> None:
    """Run the stage to its last step, or until asked to stop."""
    mix, store = mix_of(bench.recipe, bench.prepared.samples), bench.prepared.samples
    bench.message(describe(bench.recipe, store))
    bench.teacher = load_teacher(bench)
    with Evaluator(bench) as evaluator:
        if bench.progress.step == 0 and bench.recipe.evaluation.at_start:
            bench.finish_step(evaluator.evaluate() | heldout_loss(bench))
        while not bench.done:
            begun = time.monotonic()
            samples = store.samples(mix.batch(bench.progress.step))
            metrics = train_on(bench, samples)
            bench.progress.step += 1
            seconds = time.monotonic() - begun
            done = min(bench.progress.step * mix.samples_per_step / mix.epoch_samples, mix.epochs)
            metrics |= {"epoch": done, "tokens_per_s": metrics["tokens"] / seconds, "train_s": seconds}
            bench.finish_step(metrics | evaluator.when_due() | (heldout_loss(bench) if is_due(bench) else {}))


def train_on(bench: Bench, samples: Sequence[TrainSample]) -> dict[str, Any]:
    """One update on the samples of a step (every rank brings all of them); its metrics."""
    recipe, labels = bench.recipe, bench.prepared.samples.labels
    packs = packs_of(bench, samples)
    num_targets = sum(sum(sample.loss_mask[1:]) for sample in samples)
    objective = ResponseLoss(num_targets, labels)
    if bench.teacher is not None:
        objective = TaughtLoss(objective, bench.teacher.study(packs))
    result = bench.update(packs, objective, recipe.train.steps)
    metrics = {"samples": len(samples), "tokens": num_targets, "loss": result.loss, "grad_norm": result.grad_norm,
               "lr": result.lr, "expert_imbalance": result.expert_imbalance}
    if recipe.train.mtp != "off":
        metrics["mtp_loss"] = result.mtp_loss
    if bench.teacher is not None:
        metrics["teacher_kl"] = result.sums["kl"] / num_targets
    return metrics | dict(by_label(result.sums, labels, "loss"))


def is_due(bench: Bench) -> bool:
    """Whether the step just finished is one to evaluate after."""
    config, step = bench.recipe.evaluation, bench.progress.step
    return bool(config.every and step % config.every == 0) or (config.at_end and step >= bench.recipe.train.steps)


def heldout_loss(bench: Bench) -> dict[str, float]:
    """Mean cross-entropy over the responses of the held-out samples, whole and by source. Collective."""
    store = bench.prepared.samples
    samples = store.heldout_samples()
    if not samples:
        return {}
    bench.phase("held-out loss", 0, len(samples), "samples")
    packs = packs_of(bench, samples)
    scored = score_packs(bench.learner.chunks, packs, bench.groups)
    sums = [source_sums(pack, log_probs_T, len(store.labels)) for pack, log_probs_T in
            zip(packs, scored, strict=True)]
    totals_2L = torch.stack(sums).sum(0)
    dist.all_reduce(totals_2L, group=bench.groups.dp)
    nll, tokens = totals_2L.tolist()
    named = {f"{what}_{number}": value for what, values in (("nll", nll), ("tokens", tokens))
             for number, value in enumerate(values)}
    by_source = {name: value for name, value in by_label(named, store.labels, "heldout_loss")
                 if not name.startswith("tokens_")}
    return {"heldout_loss": sum(nll) / sum(tokens), **by_source}


def packs_of(bench: Bench, samples: Sequence[TrainSample]) -> list[PackedBatch]:
    return replica_packs(samples, bench.recipe.train.micro_batch_tokens, bench.prepared.tokenizer.pad_id, bench.groups)


@dataclass(frozen=True)
class ResponseLoss:
    """Mean cross-entropy over the learned tokens of the whole step (an Objective)."""

    num_targets: int
    labels: tuple[str, ...]
    record_names = ()

    def token_loss(self, batch: PackedBatch, scale: float) -> CrossEntropy:
        return CrossEntropy(batch.loss_mask * (scale / self.num_targets))

    def sums(
        self, batch: PackedBatch, log_probs_T: Tensor, entropy_T: Tensor, records: Mapping[str, Tensor]
    ) -> Mapping[str, Tensor]:
        """nll_N and tokens_N of the label number N."""
        nll_L, tokens_L = source_sums(batch, log_probs_T, len(self.labels))
        return {f"{what}_{number}": values_L[number] for what, values_L in (("nll", nll_L), ("tokens", tokens_L))
                for number in range(len(self.labels))}


@dataclass(frozen=True)
class TaughtLoss:
    """That, mixed with the distance from a teacher (an Objective)."""

    responses: ResponseLoss
    lesson: Lesson
    record_names = Teaching.record_names

    def token_loss(self, batch: PackedBatch, scale: float) -> Teaching:
        return self.lesson.teaching(batch, batch.loss_mask * (scale / self.responses.num_targets))

    def sums(
        self, batch: PackedBatch, log_probs_T: Tensor, entropy_T: Tensor, records: Mapping[str, Tensor]
    ) -> Mapping[str, Tensor]:
        """Those of the responses, and the sum of KL(teacher || student)."""
        return {**self.responses.sums(batch, log_probs_T, entropy_T, {}), "kl": (records["kl"] * batch.loss_mask).sum()}


def source_sums(batch: PackedBatch, log_probs_T: Tensor, num_labels: int) -> Tensor:
    """[2, L] fp64: of each label, the sum of -log p over its learned tokens, and how many there are."""
    sums_2L = torch.zeros(2, num_labels, dtype=torch.float64, device=log_probs_T.device)
    if batch.num_sequences:
        label_T = batch.per_sample[LABEL].long()[batch.sequence_ids.clamp(min=0)]  # padding has no loss mask
        mask_T = batch.loss_mask.double()
        sums_2L.index_add_(1, label_T, torch.stack([-log_probs_T.double() * mask_T, mask_T]))
    return sums_2L


def by_label(sums: Mapping[str, float], labels: Sequence[str], what: str) -> Iterator[tuple[str, float]]:
    """(`what`_LABEL, mean) and (tokens_LABEL, count) of every label that has tokens."""
    for number, label in enumerate(labels):
        tokens = sums[f"tokens_{number}"]
        if tokens:
            yield f"{what}_{label}", sums[f"nll_{number}"] / tokens
            yield f"tokens_{label}", tokens

"""Stage preference: a reward model on the policy's own architecture, from judgements of replies.

Helpfulness is trained on pairs, safety on labelled replies (arXiv 2501.12948, section 3 and supplement).
"""

import math
import time
from collections.abc import Sequence
from typing import Any

import torch
import torch.distributed as dist

from r1mega.model.scalar_head import PreferenceObjective, judged, last_tokens
from r1mega.record import PackedBatch, TrainSample
from r1mega.stage.bench import Bench
from r1mega.stage.packs import replica_unit_packs
from r1mega.stage.preference_data import SAFE, units
from r1mega.stage.sft import is_due
from r1mega.stage.sft_data import describe, mix_of
from r1mega.training.learner import score_packs

Z_95 = 1.959964


def preference(bench: Bench) -> None:
    """Run the stage to its last step, or until asked to stop."""
    mix, store = mix_of(bench.recipe, bench.prepared.samples), bench.prepared.samples
    bench.message(describe(bench.recipe, store))
    if bench.progress.step == 0 and bench.recipe.evaluation.at_start:
        bench.finish_step(heldout(bench))
    while not bench.done:
        begun = time.monotonic()
        metrics = train_on(bench, store.samples(mix.batch(bench.progress.step)))
        bench.progress.step += 1
        seconds = time.monotonic() - begun
        done = min(bench.progress.step * mix.samples_per_step / mix.epoch_samples, mix.epochs)
        metrics |= {"epoch": done, "tokens_per_s": metrics["tokens"] / seconds, "train_s": seconds}
        bench.finish_step(metrics | (heldout(bench) if is_due(bench) else {}))


def train_on(bench: Bench, entries: Sequence[TrainSample]) -> dict[str, Any]:
    """One update on the judgements of a step (every rank brings all of them); its metrics."""
    kind, count = bench.recipe.preference.kind, len(entries)
    result = bench.update(packs_of(bench, entries), PreferenceObjective(kind, count), bench.recipe.train.steps)
    return {"samples": count, "tokens": sum(len(entry.token_ids) for entry in entries), "loss": result.loss,
            "grad_norm": result.grad_norm, "lr": result.lr, "expert_imbalance": result.expert_imbalance,
            "preference_accuracy": result.sums["right"] / count, "preference_margin": result.sums["margin"] / count}


def heldout(bench: Bench) -> dict[str, float]:
    """Accuracy, with its 95% interval, margin and loss on the held-out judgements. Collective."""
    entries = bench.prepared.samples.heldout_samples()
    if not entries:
        return {}
    bench.phase("held-out accuracy", 0, len(entries), "judgements")
    begun, kind = time.monotonic(), bench.recipe.preference.kind
    packs = packs_of(bench, entries)
    totals = torch.zeros(3, dtype=torch.float64, device=bench.groups.device)
    for pack, scores_T in zip(packs, score_packs(bench.learner.chunks, packs, bench.groups), strict=True):
        sums = judged(kind, scores_T[last_tokens(pack)], pack.per_sample[SAFE])
        totals += torch.stack([sums["right"], sums["margin"], sums["nll"]])
    dist.all_reduce(totals, group=bench.groups.dp)
    right, margin, nll = (totals / len(entries)).tolist()
    half = Z_95 * math.sqrt(right * (1 - right) / len(entries))
    return {"heldout_preference_accuracy": right, "heldout_preference_accuracy_low": max(0.0, right - half),
            "heldout_preference_accuracy_high": min(1.0, right + half), "heldout_preference_margin": margin,
            "heldout_preference_loss": nll, "evaluate_s": time.monotonic() - begun}


def packs_of(bench: Bench, entries: Sequence[TrainSample]) -> list[PackedBatch]:
    return replica_unit_packs(units(entries, bench.recipe.preference.kind), bench.recipe.train.micro_batch_tokens,
                              bench.prepared.tokenizer.pad_id, bench.groups)

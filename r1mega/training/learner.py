"""One optimizer step over packs, under any layout."""

import r1mega.parallel  # noqa: F401, I001  the CPU door has to be open before anything here imports megatron.core

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch
import torch.distributed as dist
from megatron.core.pipeline_parallel import get_forward_backward_func
from megatron.core.utils import get_model_config
from r1mega_kernels import CrossEntropy, TokenLoss
from torch import Tensor

from r1mega.config.training import OptimizerConfig, TrainConfig
from r1mega.model import ENTROPY, LOG_PROBS, LOSS, MTP_LOG_PROBS, MTP_LOSS, RECORDS, Policy, mtp_mask
from r1mega.parallel import Groups
from r1mega.parallel.pipeline import PipelineCommunicator
from r1mega.record import PackedBatch
from r1mega.training.expert_bias import ExpertLoads, imbalance
from r1mega.training.optimizer import build_optimizer, optimizer_step, wrap, zero_gradients
from r1mega.training.schedule import learning_rate


class Objective(Protocol):
    """What a stage minimises: a loss of each token, added up over all micro-batches and replicas."""

    record_names: tuple[str, ...]  # of its token losses

    def token_loss(self, batch: PackedBatch, scale: float) -> TokenLoss:
        """The losses of a pack's targets, times `scale`. Positions outside the loss mask play no part."""
        ...

    def sums(
        self, batch: PackedBatch, log_probs_T: Tensor, entropy_T: Tensor, records: Mapping[str, Tensor]
    ) -> Mapping[str, Tensor]:
        """For the log: scalars to be added up likewise. `records` are what the token loss recorded, [T] each."""
        ...


@dataclass(frozen=True, slots=True)
class StepResult:
    """What a step did. Sums are over the whole batch."""

    loss: float  # the objective, without MTP and balance terms
    mtp_loss: float  # mean over its tokens; 0 when MTP is not trained
    grad_norm: float
    lr: float
    applied: bool  # False: something was not finite, and nothing changed
    expert_imbalance: float
    sums: Mapping[str, float]


class Learner:
    """Holds the policy's chunks, their gradient buffers and the optimizer."""

    def __init__(self, chunks: Sequence[Policy], groups: Groups, optimizer: OptimizerConfig, train: TrainConfig):
        self.chunks, self.groups, self.train, self.optimizer_config = list(chunks), groups, train, optimizer
        self.wrapped = wrap(chunks, groups)
        self.loads = ExpertLoads(chunks, groups)
        self.optimizer = build_optimizer(self.wrapped, optimizer, before_reduction=self.loads.collect)

    def step(
        self, packs: Sequence[PackedBatch], objective: Objective, update: int, total_updates: int,
        temperature: float = 1.0,
    ) -> StepResult:
        """One update from this replica's packs (every replica brings the same number).

        `update` counts optimizer steps from 1, of `total_updates` the schedule knows of.
        """
        totals = self._count(packs)
        zero_gradients(self.wrapped, self.optimizer)
        sums = self._forward_backward(packs, _Share(objective, totals, self.train.mtp_loss_weight), temperature)
        loads_LE = self.loads.totals()
        lr = learning_rate(self.optimizer_config, update, total_updates)
        grad_norm = optimizer_step(self.optimizer, lr) if math.isfinite(sums["loss"]) else math.nan
        applied = math.isfinite(grad_norm)
        if applied:
            self.loads.move_biases(loads_LE, self.train.router_bias_update_rate)
        mtp_loss = sums.pop("mtp_nll") / max(1.0, totals.mtp_tokens)
        return StepResult(loss=sums.pop("loss"), mtp_loss=mtp_loss, grad_norm=grad_norm, lr=lr, applied=applied,
                          expert_imbalance=self._mean_over_layers(imbalance(loads_LE)), sums=sums)

    def _forward_backward(
        self, packs: Sequence[PackedBatch], share: "_Share", temperature: float
    ) -> dict[str, float]:
        for chunk in self.chunks:
            chunk.train()
        outputs = run_schedule(self.wrapped, packs, share, self.groups, temperature, forward_only=False)
        return _sum_over_ranks(outputs, self.groups)

    def _count(self, packs: Sequence[PackedBatch]) -> "_Totals":
        """Token counts of the whole batch: known before the step, so every loss is divided once, by the same number."""
        tokens = sum(int((pack.sequence_ids >= 0).sum()) for pack in packs)
        mtp_tokens = sum(float(mtp_mask(pack).sum()) for pack in packs)
        counts = torch.tensor([tokens, mtp_tokens], dtype=torch.float64, device=self.groups.device)
        dist.all_reduce(counts, group=self.groups.dp)
        return _Totals(tokens=max(1, int(counts[0])), mtp_tokens=float(counts[1]))

    def _mean_over_layers(self, sum_and_count: Tensor) -> float:
        both = sum_and_count.to(self.groups.device)
        dist.all_reduce(both, group=self.groups.pp)
        return float(both[0] / both[1].clamp(min=1))


@dataclass(frozen=True, slots=True)
class _Totals:
    tokens: int
    mtp_tokens: float


class _Share:
    """An objective as the policy and Megatron's schedules want it.

    Megatron divides all gradients by the number of tokens it is told, so losses are multiplied by that number as they
    are made; the router's balance term, which Megatron adds as it is, thus becomes a mean over tokens.
    """

    def __init__(self, objective: Objective, totals: _Totals, mtp_weight: float):
        self.objective, self.totals, self.mtp_weight = objective, totals, mtp_weight

    def of_targets(self, batch: PackedBatch) -> TokenLoss:
        return self.objective.token_loss(batch, self.totals.tokens)

    def of_mtp_targets(self, batch: PackedBatch) -> TokenLoss:
        """Mean cross-entropy over all targets of the MTP layer, times its weight."""
        scale = self.totals.tokens * self.mtp_weight / max(1.0, self.totals.mtp_tokens)
        return CrossEntropy(mtp_mask(batch) * scale)

    def __call__(self, batch: PackedBatch, output_RT: Tensor) -> tuple[Tensor, Tensor, dict]:
        loss = output_RT[LOSS].sum()
        detached_RT = output_RT.detach()
        records = dict(zip(self.objective.record_names, detached_RT[RECORDS:], strict=True))
        sums = self.objective.sums(batch, detached_RT[LOG_PROBS], detached_RT[ENTROPY], records)
        num_tokens = (batch.sequence_ids >= 0).sum().int()
        logged = {"loss": loss / self.totals.tokens, "mtp_nll": -detached_RT[MTP_LOG_PROBS].sum(), **sums}
        # Copies: the schedule changes what it is given in place.
        return loss + output_RT[MTP_LOSS].sum(), num_tokens, {k: v.detach().double().clone() for k, v in logged.items()}


def run_schedule(
    model: Sequence[torch.nn.Module], packs: Sequence[PackedBatch], loss: Any, groups: Groups, temperature: float,
    forward_only: bool,
) -> list[Mapping[str, Tensor]]:
    """Run the packs through Megatron's pipeline schedule; the last stage returns what `loss(batch, output)` logs.

    Unless `forward_only`, `loss` is also the policy's PolicyLoss.
    """

    def forward_step(batches: Iterator[PackedBatch], chunk: torch.nn.Module) -> tuple[Tensor, Any]:
        batch = next(batches)
        return chunk(batch, temperature, None if forward_only else loss), lambda output: loss(batch, output)

    pipeline = {}
    if groups.pp.size() > 1:
        pipeline = {"p2p_communicator": PipelineCommunicator(groups.pp, get_model_config(model[0])),
                    "pg_collection": groups.pg}
    iterators = [iter(packs) for _ in model]
    return get_forward_backward_func()(
        forward_step_func=forward_step, data_iterator=iterators if len(model) > 1 else iterators[0],
        model=list(model), num_microbatches=len(packs), seq_length=1, micro_batch_size=1,
        forward_only=forward_only, **pipeline)


def _sum_over_ranks(outputs: Sequence[Mapping[str, Tensor]], groups: Groups) -> dict[str, float]:
    box: list[list[str]] = [sorted(outputs[0]) if outputs else []]
    last = dist.get_global_rank(groups.pp, groups.pp.size() - 1)
    if groups.pp.size() > 1:
        dist.broadcast_object_list(box, src=last, group=groups.pp)
    names = box[0]
    sums = torch.zeros(len(names), dtype=torch.float64, device=groups.device)
    if outputs:
        sums = torch.stack([torch.stack([out[name] for out in outputs]).sum() for name in names])
    if groups.pp.size() > 1:
        dist.broadcast(sums, src=last, group=groups.pp)
    dist.all_reduce(sums, group=groups.dp)
    return dict(zip(names, sums.tolist(), strict=True))


@torch.no_grad()
def score_packs(
    chunks: Sequence[Policy], packs: Sequence[PackedBatch], groups: Groups, temperature: float = 1.0
) -> list[Tensor]:
    """Log-probs of every pack's targets inside its loss mask (0 elsewhere), [T] fp32 each, without gradients; the same
    on all ranks of a replica.

    Every replica must bring the same number of packs. Routers' counters and MTP are not touched.
    """
    scored: list[Tensor] = []

    def keep(batch: PackedBatch, output_2T: Tensor) -> tuple[Tensor, dict]:
        scored.append(output_2T[LOG_PROBS].detach().clone())
        return output_2T.sum(), {}

    run_schedule(chunks, packs, keep, groups, temperature, forward_only=True)
    if groups.pp.size() > 1:
        last = dist.get_global_rank(groups.pp, groups.pp.size() - 1)
        scored = scored or [torch.empty(len(pack.token_ids), device=groups.device) for pack in packs]
        for log_probs_T in scored:
            dist.broadcast(log_probs_T, src=last, group=groups.pp)
    return scored

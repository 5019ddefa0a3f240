"""Objectives for tests."""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from r1mega_kernels import CrossEntropy, Grpo
from torch import Tensor

from r1mega.algorithm import grpo, loss_weights
from r1mega.config.rl import GrpoConfig
from r1mega.record import PackedBatch


@dataclass(frozen=True)
class Nll:
    """-log p of every trained token over `count`; a PolicyLoss as well, with MTP weighted alike."""

    count: float
    factor: float = 1.0  # NaN, to spoil it
    record_names = ()

    def token_loss(self, batch: PackedBatch, scale: float) -> CrossEntropy:
        return CrossEntropy(batch.loss_mask * (scale * self.factor / self.count))

    def sums(
        self, batch: PackedBatch, log_probs_T: Tensor, entropy_T: Tensor, records: Mapping[str, Tensor]
    ) -> Mapping[str, Tensor]:
        return {}

    def of_targets(self, batch: PackedBatch) -> CrossEntropy:
        return self.token_loss(batch, 1.0)

    def of_mtp_targets(self, batch: PackedBatch) -> CrossEntropy:
        return CrossEntropy(torch.ones_like(batch.loss_mask))


@dataclass(frozen=True)
class GrpoOf:
    """GRPO by a recipe's section."""

    config: GrpoConfig
    num_outputs: int
    num_tokens: int
    record_names = Grpo.record_names

    def token_loss(self, batch: PackedBatch, scale: float) -> Grpo:
        weights_T = loss_weights(batch, self.config, total_outputs=self.num_outputs, total_tokens=self.num_tokens)
        return grpo(batch, weights_T * scale, self.config)

    def sums(
        self, batch: PackedBatch, log_probs_T: Tensor, entropy_T: Tensor, records: Mapping[str, Tensor]
    ) -> Mapping[str, Tensor]:
        trained_T = batch.loss_mask > 0
        sums = {name: (values_T * trained_T).sum() for name, values_T in {**records, "entropy": entropy_T}.items()}
        return {"tokens": trained_T.sum(), **sums}

"""Optimizer, steps, checkpoints and logs."""

from typing import Literal

from pydantic import Field, model_validator

from r1mega.config.error import Mistake
from r1mega.config.section import Section


class OptimizerConfig(Section):
    """AdamW with fp32 master weights. Defaults are DeepSeek-V3's (arXiv 2412.19437, section 4.2)."""

    lr: float = Field(gt=0)
    min_lr: float = Field(0.0, ge=0)
    """Where the cosine ends."""
    schedule: Literal["constant", "cosine"] = "constant"
    warmup_steps: int = Field(0, ge=0)
    beta1: float = Field(0.9, ge=0, lt=1)
    beta2: float = Field(0.95, ge=0, lt=1)
    eps: float = Field(1e-8, gt=0)
    weight_decay: float = Field(0.1, ge=0)
    clip_grad: float = Field(1.0, gt=0)

    @model_validator(mode="after")
    def _floor_below_peak(self) -> "OptimizerConfig":
        if self.min_lr > self.lr:
            raise Mistake("min_lr", f"is above lr={self.lr}, and the cosine goes down; use at most {self.lr}")
        return self


class TrainConfig(Section):
    steps: int | None = Field(None, ge=1)
    """Required, but for stage sft, where the data and sft.epochs make it."""
    precision: Literal["fp32", "bf16"] = "bf16"
    micro_batch_tokens: int = Field(ge=1)
    """A micro-batch is one pack of at most this many tokens (a longer sequence gets a pack of its own)."""
    mtp: Literal["joint", "detached", "off"] = "joint"
    """Multi-token prediction: trained with the trunk, trained without reaching the trunk, or not run."""
    mtp_loss_weight: float = Field(0.1, ge=0)
    sequence_balance_weight: float = Field(1e-4, ge=0)
    """Weight of the sequence-level balance loss (arXiv 2412.19437, equation 17)."""
    router_bias_update_rate: float = Field(1e-3, ge=0)
    """Step of the selection bias that balances experts without an auxiliary loss; RL has its own value."""
    recompute: Literal["none", "selective", "full"] = "none"
    max_bad_steps: int = Field(3, ge=1)
    """A non-finite loss or gradient skips the step; this many in a row end the run, with the batch saved."""


class CheckpointConfig(Section):
    every: int = Field(50, ge=1)
    """Steps between checkpoints; the last step and a SIGTERM save too."""
    keep: int = Field(2, ge=1)
    asynchronous: bool = True


class LogConfig(Section):
    console: Literal["auto", "live", "plain", "off"] = "auto"
    """auto: a live view on a terminal, plain lines otherwise."""
    tensorboard: bool = True
    wandb_project: str | None = None
    samples_per_step: int = Field(2, ge=0)
    """Completions written to samples.jsonl at every step (evaluations write as many again)."""

"""What a stage decides about the policy beyond its shape."""

from dataclasses import dataclass
from typing import Literal

from r1mega.config.head import HeadConfig
from r1mega.config.training import TrainConfig


@dataclass(frozen=True, slots=True, kw_only=True)
class PolicySettings:
    """How the policy runs in one stage; defaults suit sampling and scoring."""

    precision: Literal["fp32", "bf16"] = "fp32"
    mtp: Literal["joint", "detached", "off"] = "off"
    sequence_balance_weight: float = 0.0
    recompute: Literal["none", "selective", "full"] = "none"
    head: HeadConfig = HeadConfig()

    @classmethod
    def of(cls, train: TrainConfig, head: HeadConfig = HeadConfig()) -> "PolicySettings":  # noqa: B008
        return cls(precision=train.precision, mtp=train.mtp, recompute=train.recompute,
                   sequence_balance_weight=train.sequence_balance_weight, head=head)

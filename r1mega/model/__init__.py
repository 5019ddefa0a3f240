"""The policy and its weights."""

import r1mega.parallel  # noqa: F401, I001  the CPU door has to be open before anything here imports megatron.core

from r1mega.model.build import build_policy
from r1mega.model.policy import (
    ENTROPY,
    LOG_PROBS,
    LOSS,
    MTP_LOG_PROBS,
    MTP_LOSS,
    RECORDS,
    Policy,
    PolicyLoss,
    mtp_mask,
)
from r1mega.model.scalar_head import add_scalar_head
from r1mega.model.settings import PolicySettings

__all__ = [
    "ENTROPY", "LOG_PROBS", "LOSS", "MTP_LOG_PROBS", "MTP_LOSS", "Policy", "PolicyLoss", "PolicySettings", "RECORDS",
    "add_scalar_head", "build_policy", "mtp_mask",
]

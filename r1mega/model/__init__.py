"""The policy and its weights."""

from r1mega.model.build import build_policy
from r1mega.model.policy import ENTROPY, LOG_PROBS, MTP_LOG_PROBS, Policy, mtp_mask
from r1mega.model.settings import PolicySettings

__all__ = ["ENTROPY", "LOG_PROBS", "MTP_LOG_PROBS", "Policy", "PolicySettings", "build_policy", "mtp_mask"]

"""Rewards: what a completion is worth, checked where it can do no harm."""

from r1mega.reward.format import extract_answer, is_well_formed
from r1mega.reward.judge import Judge

__all__ = ["Judge", "extract_answer", "is_well_formed"]

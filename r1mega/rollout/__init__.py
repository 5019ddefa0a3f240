"""Sampling completions from the policy that is being trained."""

from r1mega.rollout.engine import Engine
from r1mega.rollout.sampling import Sampling
from r1mega.rollout.seeding import sample_seed

__all__ = ["Engine", "Sampling", "sample_seed"]

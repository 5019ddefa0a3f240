"""Sampling completions from the policy that is being trained."""

import r1mega.parallel  # noqa: F401, I001  the CPU door has to be open before anything here imports megatron.core

from r1mega.rollout.engine import Engine
from r1mega.rollout.sampling import Sampling
from r1mega.rollout.seeding import sample_seed

__all__ = ["Engine", "Sampling", "sample_seed"]

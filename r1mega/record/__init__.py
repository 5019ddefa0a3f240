"""The nouns that travel through the house: small frozen dataclasses, shapes beside fields."""

from r1mega.record.batch import PackedBatch, TrainSample
from r1mega.record.problem import Problem
from r1mega.record.rollout import Completion, Rollout, RolloutGroup, SampleRequest, Score

__all__ = [
    "Completion", "PackedBatch", "Problem", "Rollout", "RolloutGroup", "SampleRequest", "Score", "TrainSample",
]

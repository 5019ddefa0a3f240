"""What a checkpoint is made of, and what one is loaded into."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch.nn import Module

from r1mega.config import ModelConfig

if TYPE_CHECKING:
    from megatron.core.optimizer import MegatronOptimizer


@dataclass(frozen=True)
class Snapshot:
    """All of a run at one step. On every rank: its own chunks and optimizer; `state` counts on rank 0 alone.

    The chunks may be wrapped (DDP, precision). `extra_models` go into folders of their names, e.g.
    "reference". `state` is everything else that resuming needs, as plain JSON values: schedule, data
    position, RL state.
    """

    policy: Sequence[Module]  # one GPTModel a virtual stage
    model_config: ModelConfig
    optimizer: "MegatronOptimizer | None" = None
    extra_models: Mapping[str, Sequence[Module]] = field(default_factory=dict)
    state: Mapping[str, Any] = field(default_factory=dict)
    tokenizer_dir: Path | None = None


@dataclass(frozen=True)
class LoadTarget:
    """What `CheckpointStore.load` fills in place. `seed` reseeds the random states where the layout
    changed."""

    policy: Sequence[Module]
    model_config: ModelConfig
    optimizer: "MegatronOptimizer | None" = None
    extra_models: Mapping[str, Sequence[Module]] = field(default_factory=dict)
    seed: int = 0

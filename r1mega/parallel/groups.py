"""Who talks to whom: the one object handed down to everything that communicates."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch.distributed import ProcessGroup

from r1mega.config import LayoutConfig

if TYPE_CHECKING:
    from megatron.core.process_groups_config import ProcessGroupCollection


@dataclass(frozen=True, slots=True)
class Groups:
    """The process groups of one rank, made by `start`."""

    rank: int
    world_size: int
    device: torch.device
    layout: LayoutConfig
    pg: "ProcessGroupCollection"  # Megatron's names for the same groups

    @property
    def tp(self) -> ProcessGroup:
        """Tensor parallel."""
        return self.pg.tp

    @property
    def pp(self) -> ProcessGroup:
        """Pipeline stages of one model replica."""
        return self.pg.pp

    @property
    def dp(self) -> ProcessGroup:
        """Replicas that hold the same dense weights and see different data."""
        return self.pg.dp

    @property
    def ep(self) -> ProcessGroup:
        """Ranks that share out one layer's experts."""
        return self.pg.ep

    @property
    def expt_tp(self) -> ProcessGroup:
        """Ranks that share out one expert's weights."""
        return self.pg.expt_tp

    @property
    def tp_rank(self) -> int:
        return self.tp.rank()

    @property
    def pp_rank(self) -> int:
        return self.pp.rank()

    @property
    def dp_rank(self) -> int:
        return self.dp.rank()

    @property
    def ep_rank(self) -> int:
        return self.ep.rank()

    @property
    def is_first_stage(self) -> bool:
        return self.pp_rank == 0

    @property
    def is_last_stage(self) -> bool:
        return self.pp_rank == self.pp.size() - 1

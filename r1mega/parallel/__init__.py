"""Ranks, process groups and devices. Importing this package opens the CPU door where there is no GPU."""

import torch

if not torch.cuda.is_available():
    # Megatron decides at import what it compiles and calls, so this comes before anything imports megatron.core.
    from r1mega.parallel import cpu

    cpu.open_door()

from r1mega.parallel.groups import Groups
from r1mega.parallel.launch import launch
from r1mega.parallel.start import start, stop

__all__ = ["Groups", "launch", "start", "stop"]

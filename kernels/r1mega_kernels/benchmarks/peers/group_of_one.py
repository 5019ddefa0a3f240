"""A process group of this process alone, for those who cannot do without."""

import torch
import torch.distributed as dist


def group_of_one(device: torch.device) -> dist.ProcessGroup:
    """The default group, made on first use; a store in memory, so that nothing is opened to the outside."""
    if not dist.is_initialized():
        backend = "nccl" if device.type == "cuda" else "gloo"
        dist.init_process_group(backend, store=dist.HashStore(), rank=0, world_size=1)
    return dist.group.WORLD


def leave_group() -> None:
    if dist.is_initialized():
        dist.destroy_process_group()

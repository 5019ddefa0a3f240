"""One rank's start: backend, Megatron's process groups, seeds."""

import os
from datetime import timedelta

import torch
import torch.distributed as dist

from r1mega.config import LayoutConfig, UserError
from r1mega.parallel.groups import Groups

TIMEOUT = timedelta(minutes=30)  # a rollout can keep other ranks waiting for long


def start(layout: LayoutConfig, seed: int = 0) -> Groups:
    """Join the process group and make every group of the layout.

    Reads RANK, WORLD_SIZE, LOCAL_RANK, MASTER_ADDR and MASTER_PORT as torchrun sets them; without them this is a
    world of one. Raises UserError where the world's size is not the layout's.
    """
    from megatron.core import parallel_state
    from megatron.core.process_groups_config import ProcessGroupCollection
    from megatron.core.tensor_parallel.random import model_parallel_cuda_manual_seed

    world_size = int(os.environ.get("WORLD_SIZE", "1"))
    if world_size != layout.world_size:
        others = layout.world_size // layout.data_parallel
        fix = (f"start {layout.world_size} ranks" if world_size % others
               else f"start {layout.world_size} ranks or set layout.data_parallel={world_size // others}")
        raise UserError(
            f"layout needs {layout.world_size} ranks (tensor_parallel x pipeline_parallel x context_parallel x "
            f"data_parallel) but WORLD_SIZE={world_size}; {fix}")
    device = _device()
    if not dist.is_initialized():
        backend = "nccl" if device.type == "cuda" else "gloo"
        where = {} if "MASTER_ADDR" in os.environ else {"store": dist.HashStore()}
        dist.init_process_group(backend, rank=int(os.environ.get("RANK", "0")), world_size=world_size,
                                timeout=TIMEOUT, **where)
    parallel_state.initialize_model_parallel(
        tensor_model_parallel_size=layout.tensor_parallel,
        pipeline_model_parallel_size=layout.pipeline_parallel,
        virtual_pipeline_model_parallel_size=layout.virtual_stages if layout.virtual_stages > 1 else None,
        context_parallel_size=layout.context_parallel,
        expert_model_parallel_size=layout.expert_parallel,
        expert_tensor_parallel_size=layout.expert_tensor_parallel,
    )
    model_parallel_cuda_manual_seed(seed)
    return Groups(rank=dist.get_rank(), world_size=world_size, device=device, layout=layout,
                  pg=ProcessGroupCollection.use_mpu_process_groups())


def stop() -> None:
    """Leave the groups of the layout; `start` may be called again, with another layout.

    The world of a launcher stays until the process ends: its store still holds the addresses of the first meeting, so a
    second one would call on ranks that have gone. A world of one is left.
    """
    from megatron.core import parallel_state

    parallel_state.destroy_model_parallel()
    if dist.is_initialized() and "RANK" not in os.environ:
        dist.destroy_process_group()


def _device() -> torch.device:
    if not torch.cuda.is_available():
        return torch.device("cpu")
    local_rank, visible = int(os.environ.get("LOCAL_RANK", "0")), torch.cuda.device_count()
    ranks_here = int(os.environ.get("LOCAL_WORLD_SIZE", local_rank + 1))
    if ranks_here > visible > 1:  # one visible: srun may give every task a card of its own
        raise UserError(f"LOCAL_WORLD_SIZE={ranks_here} ranks on a machine with {visible} GPUs, and NCCL wants one for "
                        f"each; start at most {visible} ranks a machine, or set CUDA_VISIBLE_DEVICES= (empty) for CPUs")
    device = torch.device("cuda", local_rank % visible)
    torch.cuda.set_device(device)
    return device

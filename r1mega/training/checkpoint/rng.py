"""Random states of a rank: saved as plain bytes, restored where the layout is the same."""

import logging
from pathlib import Path
from typing import TYPE_CHECKING

import safetensors.torch
import torch
from megatron.core.tensor_parallel.random import get_cuda_rng_tracker, model_parallel_cuda_manual_seed
from safetensors import SafetensorError

from r1mega.config import UserError

if TYPE_CHECKING:
    from r1mega.parallel import Groups

FOLDER = "rng"
_TRACKER = (
    "megatron."  # before the names of Megatron's own states (one for each kind of tensor-parallel region)
)

log = logging.getLogger("r1mega.checkpoint")


def rng_file(rank: int) -> str:
    """Path inside a checkpoint."""
    return f"{FOLDER}/rank-{rank:05d}.safetensors"


def rng_bytes(groups: "Groups") -> bytes:
    """This rank's random states now, as a safetensors file."""
    states = {"torch": torch.get_rng_state()}
    if groups.device.type != "cpu":
        states["device"] = torch.get_device_module(groups.device).get_rng_state(groups.device)
    states |= {f"{_TRACKER}{name}": state for name, state in get_cuda_rng_tracker().get_states().items()}
    return safetensors.torch.save({name: state.contiguous() for name, state in states.items()})


def restore_rng(folder: Path, groups: "Groups") -> None:
    """Set this rank's random states to those in the checkpoint `folder`. Raises UserError in one line."""
    path = folder / rng_file(groups.rank)
    try:
        states = safetensors.torch.load(path.read_bytes())
        torch.set_rng_state(states["torch"])
        if groups.device.type != "cpu":
            torch.get_device_module(groups.device).set_rng_state(states["device"], groups.device)
        tracked = {name.removeprefix(_TRACKER): s for name, s in states.items() if name.startswith(_TRACKER)}
        get_cuda_rng_tracker().set_states(tracked)
    except OSError as error:
        raise UserError(f"{path}: {error.strerror or error}") from None
    except (SafetensorError, KeyError, RuntimeError, TypeError, ValueError) as error:
        raise UserError(f"{path}: no random states that can be read: {str(error)[:120]}") from None


def reseed(seed: int, groups: "Groups") -> None:
    """Start this rank's random states anew from (seed, rank), for a run that goes on under another layout."""
    if groups.rank == 0:
        log.warning(
            "the checkpoint is of another layout: random states start anew from seed %d and the rank", seed
        )
    torch.manual_seed((seed << 20) + groups.rank)
    model_parallel_cuda_manual_seed(seed, force_reset_rng=True)

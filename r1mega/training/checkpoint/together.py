"""What all ranks do at once around a write: begin it, ask how it is going, and fail alike.

Only the main thread comes here; the background threads never use a process group.
"""

import socket
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import torch
import torch.distributed as dist

from r1mega.config import UserError
from r1mega.training.checkpoint.naming import writing_folder
from r1mega.training.checkpoint.write import BackgroundWrite, prepare_folder

if TYPE_CHECKING:
    from r1mega.parallel import Groups

_WAIT_S = 0.05


class CheckpointWriteError(UserError):
    """A checkpoint could not be written. Those written before are as good as they were; training may go
    on."""


def raise_together(error: str | None, kind: type[UserError] = UserError) -> None:
    """If any rank has an error, all ranks raise the first one. Collective."""
    everybody: list[str | None] = [None] * dist.get_world_size()
    dist.all_gather_object(everybody, error)
    errors = [text for text in everybody if text is not None]
    if errors:
        # a rank that only gave up because of another has nothing to say
        raise kind(next((text for text in errors if text), "the checkpoint was given up"))


@contextmanager
def failing_together(what: Path) -> Iterator[None]:
    """If anything is raised inside on some rank, all ranks raise a UserError after it, rather than wait for
    one that has gone. Collective; what is inside must not be."""
    error = None
    try:
        yield
    except UserError as problem:
        error = str(problem)
    except Exception as problem:
        text = " ".join(str(problem).split())[:200]
        error = f"{what}: {type(problem).__name__}: {text} (rank {dist.get_rank()})"
    raise_together(error)


def begin_write(final: Path, subfolders: Sequence[str], groups: "Groups") -> None:
    """Make the writing folder of `final` and see that every rank finds it. Collective. Raises
    CheckpointWriteError."""
    error = None
    if groups.rank == 0:
        try:
            prepare_folder(final, subfolders)
        except OSError as problem:
            error = f"{problem.filename or final}: {problem.strerror or problem}"
    raise_together(error, CheckpointWriteError)
    if not writing_folder(final).is_dir():
        error = (
            f"{writing_folder(final)}: made by rank 0 but not there for rank {groups.rank} on "
            f"{socket.gethostname()}; checkpoints need a folder on a file system that all ranks share"
        )
    raise_together(error, CheckpointWriteError)


def poll_write(write: BackgroundWrite, groups: "Groups") -> bool:
    """Whether the write is done on all ranks. Collective. Raises CheckpointWriteError once it has failed."""
    running_failed = [int(write.running), int(write.error is not None)]
    flags = torch.tensor(running_failed, dtype=torch.int32, device=groups.device)
    dist.all_reduce(flags, op=dist.ReduceOp.MAX)
    running, failed = flags.tolist()
    if failed:
        write.cancel()
    if running:
        return False
    if failed:
        raise_together(write.error, CheckpointWriteError)
    return True


def finish_write(write: BackgroundWrite, groups: "Groups") -> None:
    """Wait for the write. Collective. Raises CheckpointWriteError."""
    while not poll_write(write, groups):
        write.wait(_WAIT_S)

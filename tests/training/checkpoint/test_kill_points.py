"""A process killed at any file operation of a write leaves a whole checkpoint behind."""

import os
import shutil
import signal
import threading
from pathlib import Path

import torch

from r1mega.training.checkpoint import naming, verify_folder
from r1mega.training.checkpoint.files import HashedFile
from r1mega.training.checkpoint.shards import HostShard
from r1mega.training.checkpoint.write import WriteJob, prepare_folder, run_job
from tests.ranks import run_ranks

# Beside these, every write. Not opening and closing: an empty file is what a write that was cut off leaves too.
OPERATIONS = ("fsync", "rename", "mkdir", "unlink", "rmdir")


def write(root: Path, step: int, value: float) -> None:
    """A checkpoint of two parts, and pruning to the newest one: what the store's thread does."""
    final = root / naming.step_name(step)
    prepare_folder(final, ["weights", "optimizer"])
    tensor = HostShard("tensor", (4,), (0,), torch.full((4,), value))
    parts = {"weights": [tensor], "optimizer": [tensor]}
    run_job(
        WriteJob(final, final.name, 0, 1, parts, {"rng/rank": b"random", "model.json": b"{}"}),
        threading.Event(),
    )
    naming.prune(root, 1, damaged=())


def kill_everywhere(root: Path, step: int) -> int:
    """Kill the writing of `step` over checkpoint 1 at the 1st, 2nd, ... operation until one gets through."""
    for count in range(1, 1000):
        shutil.rmtree(root, ignore_errors=True)
        write(root, 1, 1.0)
        child = os.fork()
        if child == 0:
            _die_at_operation(count)
            write(root, step, 2.0)
            os._exit(0)
        _, status = os.waitpid(child, 0)
        naming.recover(root)
        steps = naming.list_steps(root)
        assert steps, f"nothing left after operation {count}"
        assert sorted(path.name for path in root.iterdir()) == [naming.step_name(s) for s in sorted(steps)]
        for found in steps:
            verify_folder(root / naming.step_name(found), naming.step_name(found))
        if status == 0:
            assert steps == [step]
            return count - 1
        assert os.WTERMSIG(status) == signal.SIGKILL
    raise AssertionError("never got through")


def _die_at_operation(count: int) -> None:
    """Before the `count`-th operation; of a write, the first half gets through."""
    left = [count]

    def is_last() -> bool:
        left[0] -= 1
        return left[0] == 0

    def deadly(original):
        def operation(*args, **kwargs):
            if is_last():
                os.kill(os.getpid(), signal.SIGKILL)
            return original(*args, **kwargs)

        return operation

    def write_or_die(file: HashedFile, data: object) -> int:
        if is_last():
            write(file, bytes(memoryview(data).cast("B"))[: memoryview(data).nbytes // 2])
            file.flush()
            os.kill(os.getpid(), signal.SIGKILL)
        return write(file, data)

    write, HashedFile.write = HashedFile.write, write_or_die
    for name in OPERATIONS:
        setattr(os, name, deadly(getattr(os, name)))


def test_killed_at_any_file_operation_one_whole_checkpoint_is_there(tmp_path):
    assert run_ranks(kill_everywhere, 1, tmp_path / "next", 2, init="gloo", timeout=600)[0] > 60


def test_killed_while_it_replaces_the_only_checkpoint_of_that_step_one_whole_is_there(tmp_path):
    assert run_ranks(kill_everywhere, 1, tmp_path / "same", 1, init="gloo", timeout=600)[0] > 60

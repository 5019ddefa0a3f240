"""Checkpoints of one run: same bits back, background writes, retention, disks that fail, ranks that die."""

import errno
import logging
import os
import signal
from pathlib import Path

import pytest
import torch
import torch.distributed as dist

from r1mega.training.checkpoint import CheckpointStore, CheckpointWriteError, naming
from tests.ranks import RankError, run_ranks
from tests.training.checkpoint.contents import same_bits, whole_checkpoint
from tests.training.checkpoint.runs import Run, everybody

TWO = {"data_parallel": 2, "expert_parallel": 2}


def resume_bit_for_bit(root: Path, layout: dict[str, int], precision: str) -> None:
    logging.disable(logging.WARNING)
    run = Run(layout, precision)
    run.train(2)
    torch.rand(3)  # random states have moved on since the seed
    store = CheckpointStore(root, 2, True, run.groups)
    store.save(2, run.snapshot(note="as saved", third=1 / 3))
    saved = run.digest()
    after = run.train(2), run.digest()  # while the thread writes
    assert store.finish() == 2
    run.leave()

    again = Run(layout, precision, seed=7)
    assert again.digest() != saved
    assert again.resume(CheckpointStore(root, 2, True, again.groups)) == {
        "update": 2,
        "note": "as saved",
        "third": 1 / 3,
    }
    assert again.digest() == saved
    assert (again.train(2), again.digest()) == after


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_under_the_same_layout_everything_comes_back_bit_for_bit_and_so_do_the_next_steps(
    tmp_path, precision
):
    run_ranks(resume_bit_for_bit, 2, tmp_path, TWO, precision, timeout=600)


def save_both_ways(root: Path) -> None:
    logging.disable(logging.WARNING)
    run = Run(TWO)
    run.train(1)
    for name, asynchronous in (("now", False), ("later", True)):
        store = CheckpointStore(root / name, 2, asynchronous, run.groups)
        store.save(1, run.snapshot())
        if asynchronous:
            run.train(2)  # changes every weight and moment in place while they are being written
            store.finish()


def test_a_background_write_holds_the_bits_of_the_moment_it_was_asked_for(tmp_path):
    run_ranks(save_both_ways, 2, tmp_path, timeout=600)
    now, later = (
        whole_checkpoint(tmp_path / "now/step-00000001"),
        whole_checkpoint(tmp_path / "later/step-00000001"),
    )
    assert now.keys() == later.keys()
    assert [key for key in now if not same_bits(now[key], later[key])] == []


def die_while_writing(root: Path, victim: int) -> None:
    logging.disable(logging.WARNING)
    run = Run(TWO)
    store = CheckpointStore(root, 2, True, run.groups)
    store.save(1, run.snapshot())
    store.finish()
    run.train(1)
    if run.groups.rank == victim:
        _die_at(os, "fsync", 2)
    store.save(2, run.snapshot())
    store.finish()


def resume_after_death(root: Path) -> tuple[int | None, list[str]]:
    logging.disable(logging.WARNING)
    run = Run(TWO, seed=3)
    store = CheckpointStore(root, 2, True, run.groups)
    run.resume(store)
    return store.latest(), sorted(path.name for path in root.iterdir())


@pytest.mark.parametrize("victim", [0, 1])
def test_a_rank_killed_while_it_writes_costs_only_the_checkpoint_being_written(tmp_path, victim):
    with pytest.raises(RankError, match="SIGKILL|signal 9|-9"):
        run_ranks(die_while_writing, 2, tmp_path, victim, timeout=600)
    assert naming.list_steps(tmp_path) == [1]
    assert run_ranks(resume_after_death, 2, tmp_path, timeout=600)[0] == (1, ["step-00000001"])


def fail_and_go_on(root: Path) -> None:
    """The disk fills up on rank 1 alone; every rank hears of it, the next checkpoint is written."""
    logging.disable(logging.WARNING)
    run = Run(TWO)
    store = CheckpointStore(root, 1, True, run.groups)
    store.save(1, run.snapshot())
    assert store.finish() == 1
    fsync = os.fsync

    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    if run.groups.rank == 1:
        os.fsync = full
    store.save(2, run.snapshot())
    with pytest.raises(
        CheckpointWriteError, match=r"No space left on device \(rank 1\); checkpoint 2 was not saved"
    ):
        store.finish()
    os.fsync = fsync
    assert store.failed_writes == 1 and store.poll() is None
    dist.barrier()  # rank 0 has cleaned up
    assert everybody(sorted(path.name for path in root.iterdir())) == [["step-00000001"]] * 2
    before = run.digest()
    run.train(1)
    assert run.digest() != before
    store.save(3, run.snapshot())
    assert store.finish() == 3
    assert store.latest() == 3
    if run.groups.rank == 0:
        os.fsync = full
    store.save(4, run.snapshot())
    store._pending[1].wait(60)  # its thread has met the full disk
    os.fsync = fsync
    with pytest.raises(CheckpointWriteError, match="checkpoint 4 was not saved"):
        store.save(5, run.snapshot())
    assert store.finish() == 5, "the failure of the one before did not keep this one from being written"
    assert store.failed_writes == 2


def test_a_full_disk_on_one_rank_is_one_line_on_all_and_training_goes_on(tmp_path):
    run_ranks(fail_and_go_on, 2, tmp_path, timeout=600)


def _die_at(module: object, name: str, count: int) -> None:
    """The `count`-th call of module.name kills this process."""
    original, calls = getattr(module, name), []

    def deadly(*args: object, **kwargs: object) -> object:
        calls.append(name)
        if len(calls) == count:
            os.kill(os.getpid(), signal.SIGKILL)
        return original(*args, **kwargs)

    setattr(module, name, deadly)

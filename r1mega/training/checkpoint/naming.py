"""The folder that holds a run's checkpoints: what is in it, and the moves that survive a kill at any point.

`step-00000010` is whole: it was renamed to that name after every file in it had been flushed to the disk.
`.writing-step-00000010` is being written, or was when its writer died. `.replaced-step-00000010` is a
checkpoint that gives way to a new one of the same step; it counts until the new one has its name.
"""

import logging
import os
import re
import shutil
from collections.abc import Collection
from pathlib import Path

from r1mega.training.checkpoint.files import sync_folder

_STEP = re.compile(r"step-(\d{8,})\Z")
_WRITING, _REPLACED = ".writing-", ".replaced-"

log = logging.getLogger("r1mega.checkpoint")


def step_name(step: int) -> str:
    return f"step-{step:08d}"


def writing_folder(final: Path) -> Path:
    """Where the folder that will be called `final` is put together: beside it, under a name nobody loads."""
    return final.with_name(_WRITING + final.name)


def list_steps(root: Path) -> list[int]:
    """Steps with a folder of the final name, newest first. Half-written ones never have one."""
    if not root.is_dir():
        return []
    found = [match for entry in root.iterdir() if (match := _STEP.match(entry.name)) and entry.is_dir()]
    return sorted((int(match[1]) for match in found), reverse=True)


def recover(root: Path) -> None:
    """After a start: bring back a checkpoint whose replacement never came, remove what was half-written."""
    if not root.is_dir():
        return
    for entry in sorted(root.iterdir()):
        if entry.name.startswith(_REPLACED):
            final = root / entry.name.removeprefix(_REPLACED)
            if final.exists():
                shutil.rmtree(entry)
            else:
                os.rename(entry, final)
                sync_folder(root)
        elif entry.name.startswith(_WRITING):
            log.warning("%s: half-written when its run died; removed", entry)
            shutil.rmtree(entry)


def publish(writing: Path, final: Path) -> None:
    """Give a finished writing folder its final name; an older folder of that name gives way. Raises
    OSError."""
    replaced = final.with_name(_REPLACED + final.name)
    if final.exists():
        os.rename(final, replaced)
    os.rename(writing, final)
    sync_folder(final.parent)
    if replaced.exists():
        shutil.rmtree(replaced)


def discard(writing: Path) -> None:
    """Remove a writing folder; what cannot be removed now goes at the next start."""
    shutil.rmtree(writing, ignore_errors=True)


def prune(root: Path, keep: int, damaged: Collection[int]) -> None:
    """Remove all but the `keep` newest checkpoints. Damaged ones do not count, so they never push a good one
    out; those older than every kept one go too."""
    steps = list_steps(root)
    kept = [step for step in steps if step not in damaged][:keep]
    for step in steps:
        if kept and step < kept[-1]:
            doomed = writing_folder(root / step_name(step))  # never loaded, should we die halfway
            shutil.rmtree(doomed, ignore_errors=True)
            os.rename(root / step_name(step), doomed)
            shutil.rmtree(doomed)

"""A run's checkpoints: saved in the background, found again after a crash, never trusted before they are
checked."""

import json
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
import torch.distributed as dist

from r1mega.config import ModelConfig, UserError
from r1mega.training.checkpoint.files import dump_json
from r1mega.training.checkpoint.manifest import DamagedError, verify_folder
from r1mega.training.checkpoint.model_folder import WEIGHTS, model_files, read_model_config
from r1mega.training.checkpoint.naming import discard, list_steps, prune, recover, step_name, writing_folder
from r1mega.training.checkpoint.optimizer_state import (
    load_optimizer_state,
    optimizer_step,
    sharded_optimizer_state,
)
from r1mega.training.checkpoint.rng import reseed, restore_rng, rng_bytes, rng_file
from r1mega.training.checkpoint.shards import HostShard, hold_shards
from r1mega.training.checkpoint.snapshot import LoadTarget, Snapshot
from r1mega.training.checkpoint.together import (
    CheckpointWriteError,
    begin_write,
    failing_together,
    poll_write,
    raise_together,
)
from r1mega.training.checkpoint.weights import load_weights, sharded_weights
from r1mega.training.checkpoint.write import BackgroundWrite, WriteJob

if TYPE_CHECKING:
    from r1mega.parallel import Groups

STATE = "state.json"
OPTIMIZER = "optimizer"
_WAIT_S = 0.05

log = logging.getLogger("r1mega.checkpoint")


class CheckpointStore:
    """The checkpoints of one run, in `folder`. Every method is collective: all ranks call it at the same
    point.

    `keep` checkpoints stay, the newest. With `asynchronous`, `save` returns once the tensors are copied to
    host memory, and a thread on every rank writes them; call `poll` now and then, and `finish` before the
    end.
    """

    def __init__(self, folder: Path, keep: int, asynchronous: bool, groups: "Groups") -> None:
        self._root = Path(folder)
        self._keep = keep
        self._asynchronous = asynchronous
        self._groups = groups
        self._pending: tuple[int, BackgroundWrite] | None = None
        self._verified: set[int] = set()
        self._damaged: set[int] = set()
        self.failed_writes = 0
        error = None
        if groups.rank == 0:
            try:
                recover(self._root)
            except OSError as problem:
                error = f"{problem.filename or folder}: {problem.strerror or problem}"
        raise_together(error)

    def save(self, step: int, snapshot: Snapshot) -> None:
        """Copy the snapshot and start writing it as checkpoint `step` (in place of an older one of that
        step).

        Waits for the write before, and without `asynchronous` for this one too. Raises CheckpointWriteError;
        if it is the write before that failed, this one is on its way all the same.
        """
        before = self._failure_of_the_last()
        final, rank = self._root / step_name(step), self._groups.rank
        optimizer_part = [OPTIMIZER] if snapshot.optimizer is not None else []
        files = self._files(step, snapshot)
        try:
            begin_write(final, [WEIGHTS, *optimizer_part, *snapshot.extra_models], self._groups)
        except CheckpointWriteError as error:
            raise self._not_saved(step, error) from None
        self._verified.discard(step)
        self._damaged.discard(step)
        job = WriteJob(final, final.name, rank, self._groups.world_size, self._parts(snapshot), files)
        self._pending = step, BackgroundWrite(job, self._prune if rank == 0 else _nothing)
        if not self._asynchronous:
            self.finish()
        if before is not None:
            raise before

    def poll(self) -> int | None:
        """The step whose checkpoint turned out whole since the last call, if one did. Costs nothing while no
        write is on its way. Raises CheckpointWriteError, on all ranks alike, if the write failed: older
        checkpoints are untouched, `failed_writes` is one higher, and training may go on."""
        if self._pending is None:
            return None
        step, write = self._pending
        try:
            if not poll_write(write, self._groups):
                return None
        except CheckpointWriteError as error:
            self._pending = None
            raise self._not_saved(step, error) from None
        self._pending = None
        return step

    def finish(self) -> int | None:
        """Wait for the write on its way; its step, if there was one. Raises CheckpointWriteError as `poll`
        does."""
        done = None
        while self._pending is not None:
            self._pending[1].wait(_WAIT_S)
            done = self.poll()
        return done

    def latest(self) -> int | None:
        """The newest checkpoint whose every file matches its checksum; None if there is none. Each damaged
        one on the way is reported in one line. All ranks share the hashing and agree."""
        steps = [list_steps(self._root) if self._groups.rank == 0 else []]
        dist.broadcast_object_list(steps, src=0)
        for step in steps[0]:
            try:
                self._verify(step)
            except DamagedError as error:
                self._damaged.add(step)
                if self._groups.rank == 0:
                    log.error("damaged checkpoint, taking the one before: %s", error)
            else:
                return step
        return None

    def load(self, step: int, target: LoadTarget) -> dict[str, Any]:
        """Fill the target in place from checkpoint `step`, saved under any layout; the `state` it was saved
        with.

        Under the same layout everything is restored bit for bit, random states included. Raises UserError, in
        one line and on all ranks, if a file is damaged or the checkpoint is of another model.
        """
        if step not in self._verified:
            self._verify(step)
        folder = self._root / step_name(step)
        with failing_together(folder):
            fields = self._fill(folder, target)
        return fields["state"]

    def _failure_of_the_last(self) -> CheckpointWriteError | None:
        try:
            self.finish()
        except CheckpointWriteError as error:
            return error
        return None

    def _files(self, step: int, snapshot: Snapshot) -> dict[str, bytes]:
        """This rank's small files. Raises UserError, on all ranks, if the tokenizer cannot be read."""
        files, error = {rng_file(self._groups.rank): rng_bytes(self._groups)}, None
        adam_step = _highest(optimizer_step(snapshot.optimizer), self._groups) if snapshot.optimizer else None
        if self._groups.rank == 0:
            try:
                files |= model_files(snapshot.model_config, snapshot.tokenizer_dir)
            except UserError as problem:
                error = str(problem)
            files[STATE] = dump_json({
                "step": step, "adam_step": adam_step, "layout": self._groups.layout.model_dump(mode="json"),
                "extra_models": sorted(snapshot.extra_models), "state": snapshot.state})
        raise_together(error)
        return files

    def _parts(self, snapshot: Snapshot) -> dict[str, list[HostShard]]:
        parts = {WEIGHTS: hold_shards(sharded_weights(snapshot.policy, self._groups))}
        if snapshot.optimizer is not None:
            states = sharded_optimizer_state(snapshot.optimizer, snapshot.policy, self._groups)
            parts[OPTIMIZER] = hold_shards(states, owned=True)
        for name, chunks in snapshot.extra_models.items():
            parts[name] = hold_shards(sharded_weights(chunks, self._groups))
        return parts

    def _fill(self, folder: Path, target: LoadTarget) -> Mapping[str, Any]:
        fields = _read_state(folder / STATE)
        _same_model(folder, target.model_config)
        load_weights(folder / WEIGHTS, target.policy, self._groups)
        for name, chunks in target.extra_models.items():
            if name not in fields["extra_models"]:
                raise UserError(
                    f"{folder}: holds no {name} model (only {', '.join(fields['extra_models']) or 'none'})"
                )
            load_weights(folder / name, chunks, self._groups)
        if target.optimizer is not None:
            if fields["adam_step"] is None:
                raise UserError(f"{folder}: holds no optimizer state; start from it as a model (start.model)")
            load_optimizer_state(
                folder / OPTIMIZER, target.optimizer, target.policy, self._groups, fields["adam_step"]
            )
        if fields["layout"] == self._groups.layout.model_dump(mode="json"):
            restore_rng(folder, self._groups)
        else:
            reseed(target.seed, self._groups)
        return fields

    def _verify(self, step: int) -> None:
        verify_folder(self._root / step_name(step), step_name(step))
        self._verified.add(step)

    def _prune(self) -> None:
        try:
            prune(self._root, self._keep, frozenset(self._damaged))
        except OSError as error:  # the new checkpoint is whole: nothing is lost but room
            log.warning("%s: an old checkpoint could not be removed: %s", error.filename, error.strerror)

    def _not_saved(self, step: int, error: CheckpointWriteError) -> CheckpointWriteError:
        """Count a failed write and give the disk back what it took."""
        self.failed_writes += 1
        if self._groups.rank == 0:
            discard(writing_folder(self._root / step_name(step)))
        return CheckpointWriteError(
            f"{error}; checkpoint {step} was not saved, the ones before it are as they were")


def _nothing() -> None:
    pass


def _highest(value: int, groups: "Groups") -> int:
    highest = torch.tensor(value, device=groups.device)
    dist.all_reduce(highest, op=dist.ReduceOp.MAX)
    return int(highest)


def _read_state(path: Path) -> Mapping[str, Any]:
    try:
        fields = json.loads(path.read_bytes())
        adam_step = fields["adam_step"]
        if not (adam_step is None or type(adam_step) is int) or "state" not in fields:
            raise ValueError("odd fields")
        if not {"layout", "extra_models"} <= fields.keys():
            raise ValueError("fields are missing")
        return fields
    except OSError as error:
        raise UserError(f"{path}: {error.strerror or error}") from None
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise UserError(
            f"{path}: not the state of a run ({type(error).__name__}: {str(error)[:80]})"
        ) from None


def _same_model(folder: Path, wanted: ModelConfig) -> None:
    saved = read_model_config(folder)
    for key, value in wanted.model_dump().items():
        if getattr(saved, key) != getattr(wanted, key):
            raise UserError(
                f"{folder}/model.json: model.{key}={saved.model_dump()[key]} but the recipe says {value}; "
                f"resume with the recipe it was made with, or in another run folder"
            )

"""What every training stage stands at: the policy, the learner, checkpoints, the log, and the wish to stop."""

import signal
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import torch
import torch.distributed as dist

from r1mega.config import Recipe, UserError
from r1mega.config.check import SHAPE_FREE
from r1mega.model import Policy, PolicySettings, add_scalar_head, build_policy
from r1mega.model.counts import count_parameters
from r1mega.parallel import Groups
from r1mega.record import PackedBatch
from r1mega.stage.prepare import Prepared
from r1mega.training.bad_batch import save_bad_batch
from r1mega.training.checkpoint import (
    CheckpointStore,
    CheckpointWriteError,
    LoadTarget,
    Snapshot,
    load_model_folder,
    read_model_config,
)
from r1mega.training.checkpoint.naming import step_name
from r1mega.training.console import Console
from r1mega.training.environment import describe_environment, write_environment
from r1mega.training.learner import Learner, StepResult
from r1mega.training.metrics import RunLog

IMPATIENCE_S = 3.0


@dataclass
class Progress:
    """What a checkpoint keeps beside tensors. The position in the data is `step` itself."""

    step: int = 0  # finished steps
    updates: int = 0  # optimizer steps, skipped ones included
    bad_steps: int = 0
    bad_in_a_row: int = 0
    empty_in_a_row: int = 0  # steps of RL with nothing to train on
    watched: dict[str, Any] = field(default_factory=dict)  # what the alarm of hacking.py has seen


class Stoppable(Protocol):
    """What a signal asks to stop."""

    stop_asked: bool


@dataclass
class Bench:
    recipe: Recipe
    run_dir: Path
    groups: Groups
    prepared: Prepared
    learner: Learner
    reference: list[Policy] | None
    store: CheckpointStore
    console: Console | None  # rank 0 only, like the log
    log: RunLog | None
    progress: Progress = field(default_factory=Progress)
    stop_asked: bool = False
    teacher: Any = None  # of stage sft, where the recipe has one
    _waited: float = 0.0  # seconds the loop stood still for the checkpoint after the step before

    def update(self, packs: Sequence[PackedBatch], objective: Any, total_updates: int) -> StepResult:
        """One optimizer step, counted; ends the run when too many in a row were not finite."""
        progress = self.progress
        progress.updates += 1
        temperature = self.recipe.rollout.temperature if self.recipe.stage == "rl" and self.recipe.rollout else 1.0
        result = self.learner.step(packs, objective, progress.updates, total_updates, temperature)
        if result.applied:
            progress.bad_in_a_row = 0
            return result
        progress.bad_steps += 1
        progress.bad_in_a_row += 1
        if progress.bad_in_a_row >= self.recipe.train.max_bad_steps:
            folder = self.run_dir / f"bad-update-{progress.updates}"
            save_bad_batch(folder, packs, self.groups.rank)
            dist.barrier()
            raise UserError(
                f"{self.run_dir}: {progress.bad_in_a_row} updates in a row had a loss or gradient that is not finite "
                f"(train.max_bad_steps); the batch is in {folder}; lower optimizer.lr or look at the data")
        return result

    def finish_step(self, metrics: Mapping[str, Any]) -> None:
        """Log the step that has just ended and save if it is time to, or if the run is to stop here."""
        step = self.progress.step
        self.stop_asked = self._anyone_asks()
        last = step >= self.recipe.train.steps
        save = step % self.recipe.checkpoint.every == 0 or last or self.stop_asked
        if self.log is not None:
            record = self.log.append({"step": step, "stage": self.recipe.stage, "bad_steps": self.progress.bad_steps,
                                      "failed_checkpoints": self.store.failed_writes,
                                      **metrics, "checkpoint_s": self._waited})
            self.console.step(record)
        begun = time.monotonic()
        if save and step > 0:
            self.save()
        else:
            self._guarded(self.store.poll)
        self._waited = time.monotonic() - begun

    def save(self) -> None:
        if self.log is not None:
            self.log.sync()
        extra = {"reference": self.reference} if self.reference is not None else {}
        snapshot = Snapshot(policy=self.learner.wrapped, model_config=self.recipe.model,
                            optimizer=self.learner.optimizer, extra_models=extra, state=vars(self.progress),
                            tokenizer_dir=self.prepared.tokenizer_dir)
        self._guarded(lambda: self.store.save(self.progress.step, snapshot))

    def phase(self, name: str, done: int, total: int, unit: str = "") -> None:
        if self.console is not None:
            self.console.phase(name, done, total, unit)

    def message(self, text: str) -> None:
        if self.console is not None:
            self.console.message(text)

    @property
    def done(self) -> bool:
        return self.progress.step >= self.recipe.train.steps or self.stop_asked

    def _guarded(self, write: Any) -> None:
        """A checkpoint that cannot be written is said and counted; older ones are whole, so the run goes on."""
        try:
            write()
        except CheckpointWriteError as error:
            self.message(f"checkpoint not written: {error}")

    def _anyone_asks(self) -> bool:
        asked = torch.tensor(float(self.stop_asked), device=self.groups.device)
        dist.all_reduce(asked, op=dist.ReduceOp.MAX)
        return bool(asked)


@contextmanager
def open_bench(
    recipe: Recipe, run_dir: Path, groups: Groups, prepared: Prepared, start: Path | None, command: Sequence[str]
) -> Iterator[Bench]:
    """Build or restore everything a stage needs; on leaving, wait for checkpoints and close the log."""
    chunks = build_policy(recipe.model, groups, PolicySettings.of(recipe.train, recipe.head), seed=recipe.seed)
    store = CheckpointStore(run_dir / "checkpoints", recipe.checkpoint.keep, recipe.checkpoint.asynchronous, groups)
    step = store.latest()
    if step is None and start is None and recipe.start.recipe is not None:
        raise UserError(f"{run_dir}/checkpoints: every checkpoint is damaged; remove the folder, and the same command "
                        "begins again from the model of start.recipe")
    if start is not None and step is None:
        check_same_shape(recipe, start)
        load_model_folder(start, chunks, groups)
    if recipe.preference is not None:
        add_scalar_head(chunks, recipe.preference.kind)
    reference = None
    if recipe.stage == "rl" and recipe.algorithm.kl_coef > 0:
        settings = PolicySettings(precision=recipe.train.precision, head=recipe.head)
        reference = build_policy(recipe.model, groups, settings, seed=recipe.seed)
        for chunk in reference:
            chunk.requires_grad_(False)
            chunk.eval()
        copy_weights(chunks, reference)
    learner = Learner(chunks, groups, recipe.optimizer, recipe.train)
    progress = Progress()
    if step is not None:
        extra = {"reference": reference} if reference is not None else {}
        target = LoadTarget(policy=learner.wrapped, model_config=recipe.model, optimizer=learner.optimizer,
                            extra_models=extra, seed=recipe.seed)
        progress = Progress(**store.load(step, target))
    log = console = None
    if groups.rank == 0:
        log = RunLog(run_dir, last_step=-1 if step is None else step, tensorboard=recipe.log.tensorboard,
                     wandb_project=recipe.log.wandb_project)
        counts = count_parameters(recipe.model)
        sizes = {"parameters": counts.total, "active_parameters": counts.active}
        write_environment(
            run_dir, describe_environment(command, groups.world_size, (device_name(groups),)) | sizes)
        console = Console(recipe.log.console, recipe.train.steps, f"{run_dir.name} · {recipe.stage}")
        console.__enter__()
        if step is not None:
            console.message(f"goes on after step {step}")
    bench = Bench(recipe, run_dir, groups, prepared, learner, reference, store, console, log, progress)
    try:
        with hearing_signals(bench):
            yield bench
            bench._guarded(store.finish)
        if bench.stop_asked and not progress.step >= recipe.train.steps:
            bench.message(_how_it_stopped(bench))
    finally:
        if console is not None and log is not None:
            console.__exit__(None, None, None)
            log.close()


@torch.no_grad()
def copy_weights(source: Sequence[Policy], target: Sequence[Policy]) -> None:
    """Make `target` equal to `source`, built under the same layout: parameters and selection biases."""
    for ours, theirs in zip(source, target, strict=True):
        kept = {name: tensor for name, tensor in [*ours.named_parameters(), *ours.named_buffers()]}
        for name, tensor in [*theirs.named_parameters(), *theirs.named_buffers()]:
            tensor.copy_(kept[name])


def check_same_shape(recipe: Recipe, start: Path) -> None:
    """Raises UserError where the model to start from has another shape than the recipe's."""
    found = read_model_config(start)
    for key, value in recipe.model.model_dump(exclude=SHAPE_FREE).items():
        theirs = getattr(found, key)
        theirs = theirs.model_dump() if hasattr(theirs, "model_dump") else theirs
        if theirs != value:
            raise UserError(f"{start}/model.json: {key}={theirs} but the recipe says model.{key}={value}; "
                            f"set model.{key}={theirs} or start from another model")


def _how_it_stopped(bench: Bench) -> str:
    step = bench.progress.step
    if (bench.run_dir / "checkpoints" / step_name(step)).is_dir():
        return f"stopped after step {step}, saved; the same command goes on from there"
    if step == 0:
        return "stopped before the first step, with nothing to save; the same command begins again"
    return f"stopped after step {step}, not saved; the same command goes on from the last checkpoint"


@contextmanager
def hearing_signals(bench: Stoppable) -> Iterator[None]:
    """SIGTERM, SIGINT, SIGHUP and SIGUSR1 (Slurm's warning before its limit) end the run after the step, saved.

    A SIGHUP that is ignored (`nohup`) stays so. Whoever heard the signals before hears them again afterwards.
    A second Ctrl-C, some seconds after the first, ends it at once. (The first reaches a rank twice: from the terminal
    and from the launcher.)
    """
    first_asked = 0.0

    def ask(number: int, frame: Any) -> None:
        nonlocal first_asked
        if bench.stop_asked and number == signal.SIGINT and time.monotonic() - first_asked > IMPATIENCE_S:
            raise KeyboardInterrupt
        first_asked = first_asked or time.monotonic()
        bench.stop_asked = True

    ours = [signal.SIGTERM, signal.SIGINT, signal.SIGUSR1]
    if signal.getsignal(signal.SIGHUP) != signal.SIG_IGN:
        ours.append(signal.SIGHUP)
    before = {number: signal.signal(number, ask) for number in ours}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler or signal.SIG_DFL)


def device_name(groups: Groups) -> str:
    return torch.cuda.get_device_name(groups.device) if groups.device.type == "cuda" else "cpu"

"""What rank 0 keeps of a run of rejection sampling: its record, its log, its console, and the dataset at the end.

Other ranks have a journal too: it knows nothing, and its calls do nothing.
"""

import hashlib
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from r1mega.config import Recipe, UserError
from r1mega.model.counts import count_parameters
from r1mega.parallel import Groups
from r1mega.record import Problem
from r1mega.record.metric import METRICS_FILE, read_jsonl
from r1mega.stage.bench import device_name
from r1mega.stage.chain import DATASET, ROWS_SO_FAR
from r1mega.stage.model_path import weights_digest
from r1mega.stage.prepare import Prepared
from r1mega.stage.rejection_dataset import REPORT, is_published, publish, read_report, report_of, sampled_rows
from r1mega.stage.rejection_helpers import name_of
from r1mega.stage.rejection_plan import FOLDER, NAMES, RejectionPlan, read_plan, read_users_rows
from r1mega.stage.rejection_record import REPLIES, Record
from r1mega.stage.rejection_sampler import RejectionSampler, Samples
from r1mega.stage.rejection_select import Finished
from r1mega.training.checkpoint.together import raise_together
from r1mega.training.console import Console
from r1mega.training.environment import describe_environment, write_environment
from r1mega.training.metrics import RunLog


class Journal:
    """Made by `open_journal`."""

    def __init__(self, recipe: Recipe, run_dir: Path, prepared: Prepared, plan: RejectionPlan, digest: str):
        self.recipe, self.plan, self._run_dir, self._digest = recipe, plan, run_dir, digest
        self.stamp = _stamp(run_dir / "data" / FOLDER, digest)
        self._problems = {problem.id: problem for problem in prepared.train.problems}
        self.record: Record | None = None
        self._log: RunLog | None = None
        self._console: Console | None = None
        self.is_done = False
        """The dataset was there before."""

    @property
    def leads(self) -> bool:
        return self.record is not None

    def phase(self, name: str, unit: str) -> Callable[[int, int], None]:
        """What shows how far a phase is."""
        return lambda done, total: self._console.phase(name, done, total, unit) if self._console is not None else None

    def message(self, text: str) -> None:
        if self._console is not None:
            self._console.message(text)

    def todo(self, wave: Sequence[str]) -> tuple[list[str], list[str]]:
        """Of a wave's problems those without samples, and those without rows."""
        if self.record is None:
            return [], []
        return ([one for one in wave if not self.record.is_sampled(one)],
                [one for one in wave if not self.record.is_finished(one)])

    def keep_samples(self, found: Sequence[Samples]) -> None:
        if self.record is not None:
            self.record.add("sampled", found)

    def with_problems(self, wanted: Sequence[str], fresh: Sequence[Samples]) -> list[tuple[Problem, Samples]]:
        """Samples of the wanted problems: just made, or of an earlier start."""
        if self.record is None:
            return []
        new = {one.problem: one for one in fresh}
        return [(self._problems[one], new.get(one) or self.record.samples(one)) for one in wanted]

    def finish_wave(self, number: int, wave: Sequence[str], found: Sequence[Finished], times: Mapping[str, float]
                    ) -> None:
        """Write what a wave gave to disk, then its line of metrics."""
        if self.record is None or self._log is None or self._console is None:
            return
        self.record.add("finished", found)
        everything = [self.record.finished(one) for one in wave]
        shown = [one.shown for one in everything if one.shown is not None]
        if shown:
            self._log.samples(number, shown)
            self._console.sample(shown[0]["question"], shown[0]["text"], shown[0]["reward"])
        self._console.step(self._log.append(wave_metrics(number, everything) | times))

    def publish(self, sampler: RejectionSampler) -> None:
        """Make the dataset of all that is finished. Collective: an error of the disk is raised on all ranks."""
        error = None
        if self._log is not None:
            self._log.sync()
            try:
                about = self._about(sampler.filters)
                report = publish(self._run_dir, self._rows(about, sampler),
                                 report_of(self._finished(), self.plan, about))
            except OSError as problem:
                error = f"{problem.filename or self._run_dir}: {problem.strerror or problem}; the same command goes on"
            else:
                self.clean_up()
                most = max(report["dropped"].items(), key=lambda item: item[1], default=None)
                why = f"; most samples were dropped as {most[0]} ({most[1]} of {report['samples']})" if most else ""
                self.message(f"dataset: {report['dataset']['rows']} rows in {self._run_dir / DATASET}{why}")
        raise_together(error)

    def open(self, command: Sequence[str], groups: Groups, stack: ExitStack) -> None:
        """On rank 0: the record, and the log behind the last wave that is finished. Raises UserError, OSError."""
        if is_published(self._run_dir):
            _check_published(self._run_dir, self.stamp)
            self.is_done = True
            self.clean_up()
            return
        self.record = stack.enter_context(Record(self._run_dir, self.stamp))
        waves = [wave for wave in self.plan.wave_lists() if all(map(self.record.is_finished, wave))]
        logged = _last_logged(self._run_dir)
        log = self.recipe.log
        self._log = stack.enter_context(RunLog(
            self._run_dir, last_step=min(logged, len(waves)), tensorboard=log.tensorboard,
            wandb_project=log.wandb_project))
        counts = count_parameters(self.recipe.model)
        write_environment(self._run_dir, describe_environment(command, groups.world_size, (device_name(groups),)) | {
            "parameters": counts.total, "active_parameters": counts.active})
        title = f"{self._run_dir.name} · {self.recipe.stage}"
        self._console = stack.enter_context(Console(log.console, self.plan.waves, title))
        for number, wave in enumerate(waves, 1):
            if number > logged:  # finished, and killed before its line was written
                self._log.append(wave_metrics(number, [self.record.finished(one) for one in wave]))
        if waves:
            self.message(f"goes on after wave {len(waves)} of {self.plan.waves}")

    def clean_up(self) -> None:
        """Take away what only an unfinished run needs."""
        for name in (ROWS_SO_FAR, REPLIES):
            (self._run_dir / name).unlink(missing_ok=True)

    def _finished(self) -> Iterator[tuple[Problem, Finished]]:
        return ((self._problems[one], self.record.finished(one)) for one in self.plan.problems)

    def _rows(self, about: Mapping[str, Any], sampler: RejectionSampler) -> Iterator[dict[str, Any]]:
        for problem, one in self._finished():
            yield from sampled_rows(one, problem, sampler.seed, about)
        yield from read_users_rows(self._run_dir / "data" / FOLDER)

    def _about(self, filters: Sequence[str]) -> dict[str, Any]:
        """Of the run, for the report and for every row's provenance."""
        recipe, config = self.recipe, self.recipe.rejection
        rewriter = {"none": None, "rules": "rules"}.get(config.rewrite, name_of(config.rewriter, self._digest))
        return {"name": recipe.name, "stamp": self.stamp, "model": self._digest, "seed": recipe.seed,
                "samples_each": config.samples, "temperature": recipe.rollout.temperature,
                "top_p": recipe.rollout.top_p, "filters": list(filters), "rewritten_by": rewriter,
                "judge": None if config.judge is None else name_of(config.judge, self._digest)}


@contextmanager
def open_journal(
    recipe: Recipe, run_dir: Path, groups: Groups, prepared: Prepared, model: Path, command: Sequence[str]
) -> Iterator[Journal]:
    """Collective. Raises UserError on all ranks."""
    plan, digest = read_plan(run_dir / "data" / FOLDER), weights_digest(model)
    journal = Journal(recipe, run_dir, prepared, plan, digest)
    error = None
    with ExitStack() as stack:
        if groups.rank == 0:
            try:
                journal.open(command, groups, stack)
            except UserError as problem:
                error = str(problem)
            except OSError as problem:
                error = f"{problem.filename or run_dir}: {problem.strerror or problem}"
        raise_together(error)
        yield journal


def wave_metrics(number: int, finished: Sequence[Finished]) -> dict[str, Any]:
    """A line of metrics.jsonl."""
    dropped: Counter[str] = Counter()
    for one in finished:
        dropped.update(one.dropped)
    samples = sum(one.samples for one in finished)
    kept = sum(len(one.kept) for one in finished)
    language = [one.language for one in finished if one.language is not None]
    tokens = sum(one.tokens for one in finished)
    return {"step": number, "stage": "rejection_sampling", "problems": len(finished), "samples": samples, "kept": kept,
            "kept_share": kept / samples, "pass_rate": sum(one.right for one in finished) / samples,
            **({"language": sum(language) / samples} if language else {}), "tokens": tokens,
            "response_tokens": tokens / samples, "truncated": sum(one.truncated for one in finished) / samples,
            **{f"dropped_{reason}": count for reason, count in sorted(dropped.items())}}


def _stamp(folder: Path, digest: str) -> dict[str, str]:
    """What a run is begun with, beside its recipe: the model, and the contents of its data."""
    data = hashlib.sha256()
    for name in NAMES:
        data.update((folder / name).read_bytes())
    return {"model": digest, "data": data.hexdigest()}


def _check_published(run_dir: Path, stamp: Mapping[str, Any]) -> None:
    theirs = read_report(run_dir).get("stamp") or {}
    for name, value in stamp.items():
        if theirs.get(name) != value:
            raise UserError(f"{run_dir / REPORT}: the dataset was made with another {name} ({theirs.get(name)}, now "
                            f"{value}); set name=... for a new run, or remove {run_dir}")


def _last_logged(run_dir: Path) -> int:
    path = run_dir / METRICS_FILE
    return max((record["step"] for record in read_jsonl(path)), default=0) if path.exists() else 0

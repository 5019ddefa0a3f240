"""RUN/dataset: a folder that `datasets.load_dataset` and our own sources read, and RUN/report.json about it."""

import hashlib
import json
import os
import shutil
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import batched
from pathlib import Path
from typing import Any

from r1mega.config import UserError
from r1mega.record import Problem
from r1mega.stage.chain import DATASET
from r1mega.stage.rejection_plan import RejectionPlan
from r1mega.stage.rejection_select import Finished
from r1mega.training.atomic_file import replace_file

REPORT = "report.json"
ROWS = "train.parquet"
SOURCE = "rollouts"  # of sampled rows, as metrics of later stages call them
FORMAT = "r1mega rejection sampling 1"
CHUNK = 1000  # rows written at a time
PROVENANCE = {"model": "string", "problem": "string", "task": "string", "language": "string", "sample": "int32",
              "seed": "int64", "tokens": "int32", "filters": "list", "judged": "list", "judge": "string",
              "rewritten_by": "string", "file": "string"}


def is_published(run_dir: Path) -> bool:
    return (run_dir / DATASET).is_dir()


def sampled_rows(
    finished: Finished, problem: Problem, seed_of: Callable[[str, int], int], about: Mapping[str, Any]
) -> Iterator[dict[str, Any]]:
    """A problem's rows. `seed_of`: of a problem's samples; `about`: what all rows of the run have in common."""
    for one in finished.kept:
        seed = seed_of(problem.id, one.sample)
        judge = {"judge": about["judge"], "judged": list(one.judged)} if one.judged else {}
        yield {"id": f"{problem.id}-{seed:016x}", "prompt": problem.question, "response": one.response,
               "source": SOURCE, "provenance": {
                   "model": about["model"], "problem": problem.id, "task": problem.task,
                   "language": problem.metadata.get("language"), "sample": one.sample, "seed": seed,
                   "tokens": one.tokens, "filters": list(about["filters"]), "rewritten_by": about["rewritten_by"],
                   **judge}}


def publish(run_dir: Path, rows: Iterable[Mapping[str, Any]], report: Mapping[str, Any]) -> dict[str, Any]:
    """Write report.json (with the rows' number and hash), then let the dataset appear, whole; returns the report.

    The bytes of the rows depend on the rows alone (and on the version of pyarrow). Raises OSError from the disk.
    """
    writing = run_dir / f".{DATASET}.writing"
    shutil.rmtree(writing, ignore_errors=True)  # of a start that was killed here
    writing.mkdir(parents=True)
    count = _write_parquet(writing / ROWS, rows)
    digest = _sha256(writing / ROWS)
    whole = {**report, "dataset": {"rows": count, "file": f"{DATASET}/{ROWS}", "sha256": digest}}
    (writing / "README.md").write_text(_card(whole), encoding="utf-8")
    for path in writing.iterdir():
        _sync(path)
    _sync(writing)
    replace_file(run_dir / REPORT, (json.dumps(whole, ensure_ascii=False, indent=1) + "\n").encode())
    os.replace(writing, run_dir / DATASET)
    _sync(run_dir)
    return whole


def read_report(run_dir: Path) -> dict[str, Any]:
    """report.json of a finished run. Raises UserError."""
    path = run_dir / REPORT
    try:
        report = json.loads(path.read_text(encoding="utf-8"))
        return report if isinstance(report, dict) else {}
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: cannot be read ({error}); set name=... for a new run, or remove {run_dir}") from None


def report_of(
    finished: Iterable[tuple[Problem, Finished]], plan: RejectionPlan, about: Mapping[str, Any]
) -> dict[str, Any]:
    """What was sampled, kept and dropped, by reason, whole and for each task and language. Has no times in it."""
    total, by_task, by_language = _Tally(), {}, {}
    for problem, one in finished:
        total.add(one)
        by_task.setdefault(problem.task, _Tally()).add(one)
        if (language := problem.metadata.get("language")) is not None:
            by_language.setdefault(language, _Tally()).add(one)
    return {"format": FORMAT, **about, **total.numbers(),
            "by_task": {name: by_task[name].numbers() for name in sorted(by_task)},
            "by_language": {name: by_language[name].numbers() for name in sorted(by_language)},
            "contaminated_problems": plan.contaminated, "evaluation_texts": plan.evaluation,
            "files": plan.files, "files_dropped": plan.files_dropped}


class _Tally:
    """Sums over problems."""

    def __init__(self) -> None:
        self._found: Counter[str] = Counter()
        self._dropped: Counter[str] = Counter()
        self._language, self._lengths = 0.0, []

    def add(self, one: Finished) -> None:
        self._found.update(problems=1, samples=one.samples, right=one.right, kept=len(one.kept), tokens=one.tokens,
                           truncated=one.truncated, problems_with_rows=bool(one.kept), measured=(
                               one.samples if one.language is not None else 0))
        self._dropped.update(one.dropped)
        self._language += one.language or 0.0
        self._lengths += [row.tokens for row in one.kept]

    def numbers(self) -> dict[str, Any]:
        found, samples = self._found, max(1, self._found["samples"])
        language = {"language": self._language / found["measured"]} if found["measured"] else {}
        return {"problems": found["problems"], "problems_with_rows": found["problems_with_rows"],
                "samples": found["samples"], "kept": found["kept"], "pass_rate": found["right"] / samples,
                **language, "truncated": found["truncated"] / samples, "dropped": dict(sorted(self._dropped.items())),
                "response_tokens": found["tokens"] / samples, "kept_tokens": _quantiles(self._lengths)}


def _quantiles(lengths: Sequence[int]) -> dict[str, float]:
    if not lengths:
        return {}
    ordered = sorted(lengths)
    last = len(ordered) - 1
    return {"mean": sum(ordered) / len(ordered), "min": ordered[0], "median": ordered[round(0.5 * last)],
            "p90": ordered[round(0.9 * last)], "max": ordered[last]}


def _write_parquet(path: Path, rows: Iterable[Mapping[str, Any]]) -> int:
    import pyarrow as pa  # 0.3 s, only paid for where a dataset is written
    import pyarrow.parquet

    types = {"string": pa.string(), "int32": pa.int32(), "int64": pa.int64(), "list": pa.list_(pa.string())}
    message = pa.struct([("role", pa.string()), ("content", pa.string())])
    schema = pa.schema([("id", pa.string()), ("prompt", pa.string()), ("response", pa.string()),
                        ("messages", pa.list_(message)), ("source", pa.string()),
                        ("provenance", pa.struct([(name, types[kind]) for name, kind in PROVENANCE.items()]))])
    count = 0
    with pyarrow.parquet.ParquetWriter(path, schema, compression="zstd") as writer:
        for chunk in batched(rows, CHUNK):
            writer.write_table(pa.Table.from_pylist([dict(row) for row in chunk], schema=schema))
            count += len(chunk)
    return count


def _card(report: Mapping[str, Any]) -> str:
    """What a reader of the folder sees first. Its head does not say which file is which split: of folders that do,
    `datasets` 5.2 takes any two for one, and would give a reader the rows of another run from its cache."""
    dropped = "".join(f"| {reason.replace('_', ' ')} | {count} |\n" for reason, count in report["dropped"].items())
    return (f"---\ntags:\n- r1mega\n---\n# {report['name']}\n\n{report['dataset']['rows']} rows; {report['kept']} of "
            f"{report['samples']} samples of {report['problems']} problems, from model {report['model']}.\nEvery row "
            f"says in `provenance` where it is from.\n\n| dropped as | samples |\n|---|---|\n{dropped}")


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)

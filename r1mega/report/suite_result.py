"""Results files of `r1mega evaluate`, read for tables and plots."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from r1mega.config import UserError

FORMAT = "r1mega evaluation 1"
PARTS = ("f1", "instructions kept", "format", "language")


@dataclass(frozen=True)
class SuiteResult:
    """One model on one suite."""

    path: Path
    model: str
    suite: str
    title: str
    paper_row: str | None
    note: str
    problems: int
    dropped: int
    samples: int
    digest: str
    """Of the problems as they were asked."""
    metrics: Mapping[str, Mapping[str, float]]
    rules: Mapping[str, str]

    @property
    def shown(self) -> list[str]:
        """The metrics a table has a row for: pass@1, cons@n, and parts; the others are in the file."""
        return [name for name in self.metrics if name == "pass@1" or name.startswith("cons@") or name in PARTS]


def read_results(paths: Sequence[Path]) -> list[SuiteResult]:
    """Files, or folders of them, in the order given. Raises UserError naming the file."""
    files = [file for path in paths for file in (sorted(path.glob("*.json")) if path.is_dir() else [path])]
    if not files:
        raise UserError(f"{', '.join(map(str, paths))}: no results (*.json) there; `r1mega evaluate` writes them")
    found = [_read(file) for file in files]
    for index, one in enumerate(found):
        for other in found[:index]:
            if (one.model, one.suite) == (other.model, other.suite):
                raise UserError(f"{one.path}: is of the same model ({one.model}) and suite as {other.path}; leave one "
                                "out, or evaluate with another --name")
    return found


def models(results: Sequence[SuiteResult]) -> list[str]:
    """Names of models, in the order in which they were given: the columns of a table."""
    return list(dict.fromkeys(one.model for one in results))


def _read(path: Path) -> SuiteResult:
    try:
        tree = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(f"{path}: {error.strerror or error}; give results of `r1mega evaluate`") from None
    except ValueError as error:
        raise UserError(f"{path}: damaged ({error}); evaluate again") from None
    if not isinstance(tree, dict) or tree.get("format") != FORMAT:
        raise UserError(f"{path}: is not a results file of `r1mega evaluate`")
    try:
        return _result(path, tree)
    except (KeyError, TypeError) as error:
        raise UserError(f"{path}: damaged (lacks {error}); evaluate again") from None


def _result(path: Path, tree: dict[str, Any]) -> SuiteResult:
    suite = tree["suite"]
    metrics = {name: {key: float(estimate[key]) for key in ("value", "low", "high")}
               for name, estimate in tree["metrics"].items()}
    return SuiteResult(
        path=path, model=tree["model"]["name"], suite=suite["name"], title=suite["title"],
        paper_row=suite["paper_row"], note=suite["note"], problems=suite["problems"], dropped=suite["dropped"],
        samples=tree["stamp"]["samples"], digest=tree["stamp"]["suite"], metrics=metrics, rules=tree["rules"])

"""One self-contained HTML page about a whole pipeline: its claims, models on suites, stages, curves and samples."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from importlib import resources
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup

from r1mega.config import UserError
from r1mega.config.pipeline import Claim
from r1mega.record.metric import METRICS, METRICS_FILE
from r1mega.record.metric_text import duration, number
from r1mega.report.claims import Finding, findings
from r1mega.report.description import facts
from r1mega.report.headline import headline
from r1mega.report.run import Run, read_run
from r1mega.report.samples import Sample, early_and_late, tidy
from r1mega.report.suite_result import SuiteResult, read_results
from r1mega.report.suite_section import RESULTS, suite_section

FACTS = ("machine", "versions", "commit", "started", "command")
CURVES = {  # of each kind of stage, what tells most
    "pretrain": ("loss", "heldout_pass_at_1"),
    "sft": ("loss", "heldout_loss", "heldout_pass_at_1", "heldout_language"),
    "rl": ("heldout_pass_at_1", "reward", "heldout_language", "response_tokens"),
    "preference": ("loss", "heldout_accuracy"),
    "rejection_sampling": ("pass_rate", "kept"),
}


@dataclass(frozen=True)
class StageSummary:
    """What the page has to know of a stage beside its run folder."""

    name: str
    kind: str
    reads: Sequence[str]
    """Names of the stages whose models or data sets it reads."""
    folder: Path
    state: str


def write_pipeline_report(name: str, stages: Sequence[StageSummary], claims: Sequence[Claim], output: Path) -> Path:
    """Write the page. Raises UserError for a damaged file, or where `output` cannot be written."""
    page = render_pipeline(name, stages, claims, output.parent)
    try:
        output.parent.mkdir(parents=True, exist_ok=True)
        output.write_text(page, encoding="utf-8", errors="replace")
    except OSError as error:
        raise UserError(f"{output}: cannot be written ({error.strerror or error})") from None
    return output


def render_pipeline(name: str, stages: Sequence[StageSummary], claims: Sequence[Claim], beside: Path) -> str:
    """The page, as text; links are relative to the folder `beside`."""
    runs = {stage.name: read_run(stage.folder) for stage in stages if (stage.folder / METRICS_FILE).is_file()}
    results = _results(stages)
    found = findings(claims, results)
    environment = jinja2.Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True,
                                     undefined=jinja2.StrictUndefined)
    environment.globals.update(duration=duration, number=number)
    environment.filters["tidy_text"] = tidy
    files = resources.files("r1mega.report")
    rows = [_row(stage, runs.get(stage.name), beside) for stage in stages]
    return environment.from_string(files.joinpath("pipeline_page.html").read_text("utf-8")).render(
        name=name, style=Markup(files.joinpath("style.css").read_text("utf-8")),  # noqa: S704 - our own file
        cards=_cards(stages, rows, found), findings=found, rows=rows,
        suites=suite_section(results, " by stage"),
        curves=_curves(stages, runs), pairs=_pairs(stages, runs),
        facts=[fact for fact in facts(list(runs.values())[:1]) if fact[0] in FACTS])


def _results(stages: Sequence[StageSummary]) -> list[SuiteResult]:
    """Results of every evaluating stage that is done, named by the stage whose model was asked."""
    return [replace(one, model=stage.reads[0] if stage.reads else stage.name)
            for stage in stages if stage.kind == "evaluate" and stage.state == "done"
            for one in read_results([stage.folder / RESULTS])]


def _row(stage: StageSummary, run: Run | None, beside: Path) -> dict[str, Any]:
    """A line of the table of stages."""
    figures = None if run is None else headline(run)
    page = stage.folder / "report.html"
    link = page.resolve().relative_to(beside.resolve(), walk_up=True).as_posix() if page.is_file() else None
    return {"name": stage.name, "kind": stage.kind, "reads": ", ".join(stage.reads), "state": stage.state, "link": link,
            "steps": figures.steps if figures else None, "tokens": figures.tokens if figures else 0,
            "seconds": figures.seconds if figures else _evaluation_seconds(stage.folder)}


def _evaluation_seconds(folder: Path) -> float:
    return sum(json.loads(path.read_text(encoding="utf-8"))["run"]["seconds"]
               for path in sorted((folder / RESULTS).glob("*.json")) if "partial" not in path.name)


def _cards(
    stages: Sequence[StageSummary], rows: Sequence[Mapping[str, Any]], found: Sequence[Finding]
) -> list[tuple[str, str, str]]:
    done = sum(stage.state == "done" for stage in stages)
    cards = [("stages", f"{done} of {len(stages)}", "done"),
             ("time", duration(sum(row["seconds"] for row in rows)), "of all stages, without their starts"),
             ("tokens", number(sum(row["tokens"] for row in rows), "count"), "trained on or sampled")]
    if found:
        held = sum(one.verdict == "holds" for one in found)
        failed = sum(one.verdict == "fails" for one in found)
        cards.insert(0, ("claims that hold", f"{held} of {len(found)}",
                         f"{failed} fail{'s' * (failed == 1)}, {len(found) - held - failed} open or unmeasured"))
    return cards


def _curves(
    stages: Sequence[StageSummary], runs: Mapping[str, Run]
) -> list[tuple[StageSummary, list[tuple[str, Markup]]]]:
    """The plots of each stage that has some."""
    from r1mega.report.plots import metric_plot

    shown = []
    for stage in stages:
        run = runs.get(stage.name)
        keys = [] if run is None else [key for key in CURVES.get(stage.kind, ()) if len(run.curve(key)) > 1]
        if keys:
            # The name of the stage keeps the ids of its drawings apart from those of other stages.
            shown.append((stage, [(METRICS[key].label if key in METRICS else key.replace("_", " "),
                                   Markup(metric_plot([run], key, apart=stage.name))) for key in keys]))
    return shown


def _pairs(stages: Sequence[StageSummary], runs: Mapping[str, Run]) -> list[tuple[str, tuple[Sample, Sample]]]:
    """One problem early and late of every stage that logged one."""
    pairs = [(stage.name, early_and_late(runs[stage.name])) for stage in stages if stage.name in runs]
    return [(name, found[0]) for name, found in pairs if found]

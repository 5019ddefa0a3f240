"""The part of a page about models on suites: a figure, and a table a suite."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from importlib import resources
from pathlib import Path

import jinja2
from markupsafe import Markup

from r1mega.report.samples import tidy
from r1mega.report.suite_result import SuiteResult, read_results

RESULTS = "evaluation"  # folder of results in a run's
Tables = list[tuple[SuiteResult, list[str], list[tuple[str, list[str]]]]]


def suite_section(results: Sequence[SuiteResult], by: str = "") -> Markup | None:
    """HTML, to stand in a page with the house's style; None for no results. `by`: how the figure's title ends."""
    if not results:
        return None
    from r1mega.report.plots import suites_plot  # matplotlib takes a second to import

    environment = jinja2.Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True,
                                     undefined=jinja2.StrictUndefined)
    environment.filters["tidy_text"] = tidy
    text = resources.files("r1mega.report").joinpath("suite_section.html").read_text("utf-8")
    return Markup(environment.from_string(text).render(
        by=by, figure=Markup(suites_plot(results)), suites=suite_tables(results),
        parts=any(name in one.metrics for one in results for name in ("language", "format"))))


def results_of_runs(folders: Sequence[Path]) -> list[SuiteResult]:
    """What lies in the evaluation/ of run folders. Models of one name in two runs get the runs' names beside theirs.
    Raises UserError for a damaged file."""
    found: list[SuiteResult] = []
    for folder in folders:
        if any((folder / RESULTS).glob("*.json")):
            known = {(one.model, one.suite) for one in found}
            found += [replace(one, model=f"{one.model} ({folder.resolve().name})")
                      if (one.model, one.suite) in known else one for one in read_results([folder / RESULTS])]
    return found


def suite_tables(results: Sequence[SuiteResult]) -> Tables:
    """Of each suite: a result for its title and note, the metrics, and a row of figures for every model."""
    tables = []
    for suite in dict.fromkeys(one.suite for one in results):
        of_suite = [one for one in results if one.suite == suite]
        metrics = list(dict.fromkeys(metric for one in of_suite for metric in (*one.shown, f"pass@{one.samples}")
                                     if metric in one.metrics))
        rows = [(one.model, [_percent(one.metrics.get(metric)) for metric in metrics]) for one in of_suite]
        tables.append((of_suite[0], metrics, rows))
    return tables


def _percent(estimate: Mapping[str, float] | None) -> str:
    if estimate is None:
        return "–"
    return f"{100 * estimate['value']:.1f} ({100 * estimate['low']:.1f} to {100 * estimate['high']:.1f})"

"""pass@1 across models or stages, with intervals; language and format, and published figures, in panels of their own.
"""

from collections.abc import Sequence
from pathlib import Path

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from r1mega.report.published import Published
from r1mega.report.suite_result import SuiteResult, models
from r1mega.report.svg import INK, PAPER, SERIES, STYLE

PARTS = {"language": {"linestyle": "solid", "marker": "s"}, "format": {"linestyle": "dotted", "marker": "^"}}
HEIGHT, INCHES_A_MODEL, LEGEND_INCHES = 3.6, 1.0, 2.4


def plot_results(results: Sequence[SuiteResult], published: Published | None, path: Path) -> None:
    """Write the figure; the ending of `path` says in which format. The same results give the same bytes."""
    beside = [] if published is None else [one for one in _suites(results) if published.find(one.paper_row, "pass@1")]
    parts = any(name in one.metrics for one in results for name in PARTS)
    counts = [len(models(results))] * (1 + parts) + ([len(published.columns)] if beside else [])
    with matplotlib.rc_context(STYLE | {"svg.hashsalt": "suites"}):
        width = LEGEND_INCHES + INCHES_A_MODEL * (sum(counts) + len(counts))
        figure = Figure(figsize=(width, HEIGHT), layout="constrained", facecolor=PAPER)
        axes = figure.subplots(1, len(counts), sharey=True, squeeze=False, width_ratios=[n + 1 for n in counts])[0]
        draw_measured(axes[0], results)
        if parts:
            draw_parts(axes[1], results)
        if beside:
            _draw_published(axes[-1], beside, _suites(results), published)
        figure.legend(*axes[0].get_legend_handles_labels(), loc="outside right upper")
        metadata = {"Date": None} if path.suffix == ".svg" else {"CreationDate": None} if path.suffix == ".pdf" else {}
        figure.savefig(path, metadata=metadata)


def draw_measured(axes: Axes, results: Sequence[SuiteResult]) -> None:
    """A line a suite over the models in their order."""
    _draw_lines(axes, results, "pass@1", marker="o")
    axes.set_title("measured, pass@1 with 95% intervals", color=INK, fontsize=9.5, loc="left")
    _finish(axes, models(results))


def draw_parts(axes: Axes, results: Sequence[SuiteResult]) -> None:
    """Of suites that measure them, in the suites' colours: what else the rewards of training see."""
    for metric, style in PARTS.items():
        _draw_lines(axes, results, metric, **style)
    named = " and ".join(f"{name} ({style['linestyle']})" for name, style in PARTS.items()
                         if any(name in one.metrics for one in results))
    axes.set_title(f"measured, {named}", color=INK, fontsize=9.5, loc="left")
    _finish(axes, models(results))


def _draw_lines(axes: Axes, results: Sequence[SuiteResult], metric: str, **style: str) -> None:
    """One metric, a line a suite that has it, a little apart so that intervals do not hide one another."""
    names, suites = models(results), _suites(results)
    for index, suite in enumerate(suites):
        points = [(names.index(one.model), one.metrics[metric]) for one in results
                  if one.suite == suite.suite and metric in one.metrics]
        if not points:
            continue
        points.sort(key=lambda point: point[0])
        shift = 0.06 * (index - (len(suites) - 1) / 2)
        values = [point["value"] for _, point in points]
        below = [point["value"] - point["low"] for _, point in points]
        above = [point["high"] - point["value"] for _, point in points]
        axes.errorbar([at + shift for at, _ in points], values, yerr=[below, above], label=suite.title,
                      color=SERIES[index % len(SERIES)], markersize=5, capsize=2, elinewidth=1, **style)


def _draw_published(
    axes: Axes, beside: Sequence[SuiteResult], suites: Sequence[SuiteResult], published: Published
) -> None:
    for suite in beside:
        row = published.find(suite.paper_row, "pass@1")
        values = [float("nan") if value is None else value / 100 for value in row.values]
        axes.plot(range(len(values)), values, color=SERIES[suites.index(suite) % len(SERIES)], marker="o",
                  markerfacecolor=PAPER, markersize=5, linestyle="--", linewidth=1.2)
    axes.set_title(f"published: {published.source.split(':')[0]}", color=INK, fontsize=9.5, loc="left")
    _finish(axes, published.columns)


def _suites(results: Sequence[SuiteResult]) -> list[SuiteResult]:
    """The first result of each suite."""
    return list({one.suite: one for one in reversed(results)}.values())[::-1]


def _finish(axes: Axes, names: Sequence[str]) -> None:
    axes.set_ylim(-0.02, 1.02)
    axes.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
    rotation = 60 if len(names) > 6 else 20 if max(map(len, names)) > 10 else 0
    axes.set_xticks(range(len(names)), names, rotation=rotation)
    axes.set_xlim(-0.5, len(names) - 0.5)

"""The curves of one or several runs, drawn with matplotlib (without its global state)."""

from collections.abc import Callable, Sequence

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator, PercentFormatter

from r1mega.record.metric import METRICS, PHASES
from r1mega.report.curve import Curve, mean_and_range, smooth, thin
from r1mega.report.headline import Evaluation, evaluations
from r1mega.report.run import Run, labels, repetitions
from r1mega.report.suite_plot import PARTS, draw_measured, draw_parts
from r1mega.report.suite_result import SuiteResult
from r1mega.report.svg import INK, PAPER, SERIES, STYLE, inline_svg

SMALL = (4.0, 2.3)  # inches, at 72 points each
WIDE = (10.4, 3.7)
TRUTHS = ("heldout_pass_at_1", "heldout_general_helpful", "heldout_general_harmless")
EXACT = ("lr", "bad_steps")  # no noise to smooth away
FEW_POINTS = 30  # up to here points get a marker


def heldout_plot(runs: Sequence[Run]) -> str:
    """pass@1 on held-out problems over steps, with its interval (one run) or mean and range (repetitions)."""
    return _drawn("heldout_pass_at_1", WIDE, lambda axes: draw_heldout(axes, runs))


def metric_plot(runs: Sequence[Run], key: str, apart: str = "") -> str:
    """One metric over steps. `apart`: a word that keeps its ids apart where a page shows the metric more than once."""
    return _drawn(f"{apart}{key}", SMALL, lambda axes: draw_metric(axes, runs, key))


def suites_plot(results: Sequence[SuiteResult]) -> str:
    """Every model on every suite; beside it, where suites measure them, language and format."""
    parts = any(name in one.metrics for one in results for name in PARTS)
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=WIDE, layout="constrained")
        axes = figure.subplots(1, 1 + parts, sharey=True, squeeze=False)[0]
        draw_measured(axes[0], results)
        if parts:
            draw_parts(axes[1], results)
        axes[0].legend(loc="best")
        return inline_svg(figure, "suites")


def parts_plot(run: Run, keys: Sequence[str]) -> str:
    """Several metrics of one run on the same axis, e.g. the reward and its parts."""

    def draw(axes: Axes) -> None:
        for i, key in enumerate(keys):
            curve = run.curve(key)
            axes.plot(*_columns(thin(smooth(curve)[0])), color=SERIES[i], label=METRICS[key].label
                      if key in METRICS else key.replace("_", " "), **_marker(curve))
        axes.legend(loc="best")
        _finish(axes, "number", runs=[run])

    return _drawn("parts", SMALL, draw)


def truth_plot(run: Run) -> str:
    """The reward that is trained on and what is measured without it, in one figure: where they part, the policy pleases
    its judges and is no better for it. Steps at which the alarm rang are marked."""

    def draw(axes: Axes) -> None:
        reward = "reward_preference" if run.curve("reward_preference") else "reward_accuracy"
        curves = [(reward, smooth(run.curve(reward))[0])] + [(key, run.curve(key)) for key in TRUTHS if run.curve(key)]
        for i, (key, curve) in enumerate(curves):
            style = {"linestyle": "--"} if i == 0 else {"marker": "o", "markersize": 4}
            axes.plot(*_columns(thin(curve)), color=SERIES[i], label=METRICS[key].label, **style)
            low, high = (dict(run.curve(f"{key}_{end}")) for end in ("low", "high"))
            if steps := sorted(low.keys() & high.keys()):
                axes.fill_between(steps, [low[step] for step in steps], [high[step] for step in steps],
                                  color=SERIES[i], alpha=0.14, linewidth=0)
        rang = [step for step, value in run.curve("hacking_alarm") if value]
        for step in rang:
            axes.axvline(step, color=INK, linewidth=0.8, linestyle=":", label="alarm" if step == rang[0] else None)
        axes.legend(loc="best")
        _finish(axes, "percent", [run])
        axes.set_ylim(0, 1.02)

    return _drawn("truth", SMALL, draw)


def phases_plot(runs: Sequence[Run]) -> str:
    """Seconds of each phase: stacked over the steps of one run, or the minutes of each of several runs."""
    return _drawn("phases", SMALL,
                  lambda axes: _stack(axes, runs[0]) if len(runs) == 1 else _bars(axes, runs))


def draw_heldout(axes: Axes, runs: Sequence[Run]) -> None:
    several, names = len(runs) > 1, labels(runs)
    for i, run in enumerate(runs):
        found = evaluations(run)
        if not found:
            continue
        steps, rates = [one.step for one in found], [one.pass_at_1 for one in found]
        if not several and all(one.low is not None for one in found):
            axes.fill_between(steps, [one.low for one in found], [one.high for one in found],
                              color=SERIES[i], alpha=0.16, linewidth=0, label="95% confidence interval")
        axes.plot(steps, rates, color=SERIES[i % len(SERIES)], label=names[i] if several else "pass@1",
                  marker="o", markersize=5, markeredgecolor=PAPER, markeredgewidth=1,
                  linewidth=1.4 if several else 2.2)
        if not several:
            _annotate_ends(axes, found)
    if repetitions(runs):
        _mean_and_range(axes, [[(one.step, one.pass_at_1) for one in evaluations(run)] for run in runs])
    axes.legend(loc="lower right")
    _finish(axes, "percent", runs)
    axes.set_ylim(0, 1)
    axes.set_ylabel("pass@1, held-out problems")


def draw_metric(axes: Axes, runs: Sequence[Run], key: str) -> None:
    several = len(runs) > 1
    smoothed = []
    for i, run in enumerate(runs):
        curve = run.curve(key)
        if not curve:
            continue
        mean, width = smooth(curve) if key not in EXACT else (curve, 1)
        smoothed.append(mean)
        colour = SERIES[i % len(SERIES)]
        if width > 1 and not several:
            axes.plot(*_columns(thin(curve)), color=colour, alpha=0.28, linewidth=0.8)
        axes.plot(*_columns(thin(mean)), color=colour, linewidth=1.2 if several else 1.8,
                  alpha=0.75 if several else 1.0, **_marker(curve))
    if repetitions(runs) and len(smoothed) == len(runs):
        _mean_and_range(axes, smoothed, label=False)
    _finish(axes, METRICS[key].kind if key in METRICS else "number", runs)


def _annotate_ends(axes: Axes, found: Sequence[Evaluation]) -> None:
    """The first and the last figure in words, clear of the interval's band."""
    for one, side in ((found[0], "left"), (found[-1], "right"))[:len(found)]:
        below = one.pass_at_1 > 0.5
        edge = one.low if below else one.high
        axes.annotate(f"{100 * one.pass_at_1:.1f}%", (one.step, one.pass_at_1 if edge is None else edge),
                      textcoords="offset points", xytext=(0, -16 if below else 7), ha=side, color=INK,
                      fontsize=11)


def _mean_and_range(axes: Axes, curves: Sequence[Curve], label: bool = True) -> None:
    rows = mean_and_range(curves)
    if not rows:
        return
    kept = rows[::max(len(rows) // 200, 1)]
    steps, means, low, high = zip(*kept, strict=True)
    axes.fill_between(steps, low, high, color=INK, alpha=0.10, linewidth=0,
                      label="lowest to highest" if label else None)
    axes.plot(steps, means, color=INK, linewidth=2.2, label=f"mean of {len(curves)}" if label else None)


def _stack(axes: Axes, run: Run) -> None:
    phases = [key for key in PHASES if run.curve(key)]
    by_step = {key: dict(run.curve(key)) for key in phases}
    steps = sorted(set.union(*(set(values) for values in by_step.values())))
    rows = [_columns(thin([(step, by_step[key].get(step, 0.0)) for step in steps], 120)) for key in phases]
    axes.stackplot(rows[0][0], [values for _, values in rows], labels=[METRICS[key].label for key in phases],
                   colors=[SERIES[PHASES.index(key)] for key in phases], linewidth=0, alpha=0.85)
    axes.legend(loc="upper left", ncols=3, bbox_to_anchor=(0, 1.02), columnspacing=1.0, handlelength=1.0)
    _finish(axes, "time", [run])
    axes.set_ylim(0, axes.get_ylim()[1] * 1.35)  # room for the legend


def _bars(axes: Axes, runs: Sequence[Run]) -> None:
    names, left = labels(runs), [0.0] * len(runs)
    for key in PHASES:
        minutes = [sum(value for _, value in run.curve(key)) / 60 for run in runs]
        if any(minutes):
            axes.barh(names, minutes, left=left, color=SERIES[PHASES.index(key)], alpha=0.85,
                      label=METRICS[key].label, height=0.6)
            left = [a + b for a, b in zip(left, minutes, strict=True)]
    axes.invert_yaxis()
    axes.grid(False, axis="y")
    axes.set_xlabel("minutes")
    axes.legend(loc="lower left", bbox_to_anchor=(0, 1.0), ncols=3, columnspacing=0.8, handlelength=1.0)


def _finish(axes: Axes, kind: str, runs: Sequence[Run]) -> None:
    axes.set_xlabel("step")
    axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))
    axes.yaxis.set_major_locator(MaxNLocator(5))
    axes.margins(x=0.02)
    match kind:
        case "percent":
            axes.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=None))
        case "count":
            axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
        case "time":
            axes.set_ylabel("seconds")
    if len({record["step"] for run in runs for record in run.metrics}) == 1:  # no extent of its own
        step = runs[0].metrics[0]["step"]
        axes.set_xlim(step - 1, step + 1)


def _marker(curve: Curve) -> dict[str, object]:
    return {"marker": "o", "markersize": 3.5} if len(curve) <= FEW_POINTS else {}


def _columns(curve: Curve) -> tuple[list[int], list[float]]:
    return [step for step, _ in curve], [value for _, value in curve]


def _drawn(name: str, size: tuple[float, float], draw: Callable[[Axes], None]) -> str:
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=size, layout="constrained")
        draw(figure.subplots())
        return inline_svg(figure, name)

"""One self-contained HTML page about one or several runs."""

from collections.abc import Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup

from r1mega.config import UserError
from r1mega.record.metric import METRICS, PHASES
from r1mega.record.metric_text import duration, number
from r1mega.report.description import facts, title
from r1mega.report.headline import Headline, headline, mean
from r1mega.report.run import Run, labels, read_run
from r1mega.report.samples import early_and_late, latest, tidy
from r1mega.report.suite_section import results_of_runs, suite_section

PANELS = (  # sections of the page, and the metrics each plots
    ("Learning", ("reward", "pass_rate", "heldout_format", "heldout_language", "loss", "mtp_loss")),
    ("Behaviour", ("response_tokens", "truncated", "heldout_response_tokens", "entropy", "kl",
                   "groups_dropped")),
    ("Dataset", ("kept_share", "kept", "language")),
    ("Optimisation", ("grad_norm", "lr", "clip_fraction", "logprob_gap", "expert_imbalance", "bad_steps")),
    ("Machine", ("phases", "tokens_per_s")),
)
PART_CAPTION = "mean over the rollout, before its weight"
ENDS = "first and last 5% of steps"
HIDDEN_WHEN_ZERO = ("bad_steps", "groups_dropped")
ONLY_WHEN_ASKED_FOR = ("heldout_language", "kept_share", "kept", "language")  # its absence is nothing to tell


@dataclass(frozen=True)
class Plot:
    label: str
    caption: str
    svg: Markup


def write_report(runs: Sequence[Path], output: Path | None = None) -> Path:
    """Write the report of `runs` to `output`, by default report.html in the first run's folder.

    Raises:
        UserError: no run, no such run folder, a damaged file in one, or `output` cannot be written.
    """
    if not runs:
        raise UserError("report: no run given; name at least one run folder, e.g. runs/tiny-zero")
    page = render([read_run(run) for run in runs])
    output = output or runs[0] / "report.html"
    try:
        output.parent.mkdir(parents=True, exist_ok=True)
        output.write_text(page, encoding="utf-8", errors="replace")
    except OSError as error:
        reason = error.strerror or error
        raise UserError(f"{output}: cannot be written ({reason}); name another place with --output") from None
    return output


def render(runs: Sequence[Run]) -> str:
    """The page, as text."""
    figures, names = [headline(run) for run in runs], labels(runs)
    sections, missing = _sections(runs)
    environment = jinja2.Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True,
                                     undefined=jinja2.StrictUndefined)
    environment.globals.update(duration=duration, number=number, zip=zip)
    environment.filters["tidy_text"] = tidy
    files = resources.files("r1mega.report")
    template = environment.from_string(files.joinpath("page.html").read_text("utf-8"))
    return template.render(
        style=Markup(files.joinpath("style.css").read_text("utf-8")),  # noqa: S704 - our own file
        title=title(runs), facts=facts(runs), runs=runs, names=names, figures=figures, cards=_cards(figures),
        suites=suite_section(results_of_runs([run.folder for run in runs])), heldout=_heldout(runs),
        sections=sections, missing=missing,
        pairs=[early_and_late(run) for run in runs], latest=[latest(run) for run in runs])


def _heldout(runs: Sequence[Run]) -> Markup | None:
    from r1mega.report.plots import heldout_plot  # matplotlib takes a second to import

    return Markup(heldout_plot(runs)) if any(run.curve("heldout_pass_at_1") for run in runs) else None


def _sections(runs: Sequence[Run]) -> tuple[list[tuple[str, list[Plot]]], list[str]]:
    """The plots of each section, and the labels of metrics that no run recorded."""
    sections, missing = [], []
    for section, keys in PANELS:
        plots = []
        for key in keys:
            plot = _phases(runs) if key == "phases" else _metric(runs, key)
            if plot is not None:
                plots.append(plot)
                if key == "reward" and len(runs) == 1 and (truth := _truth(runs[0])) is not None:
                    plots.append(truth)
            elif key in METRICS and key not in (*HIDDEN_WHEN_ZERO, *ONLY_WHEN_ASKED_FOR):
                missing.append(METRICS[key].label)
            if key == "reward" and len(runs) > 1:
                plots += [part for name in _parts(runs) if (part := _metric(runs, name)) is not None]
        if plots:
            sections.append((section, plots))
    if not any(run.curve("heldout_pass_at_1") for run in runs):
        missing.insert(0, METRICS["heldout_pass_at_1"].label)
    return sections, missing


def _metric(runs: Sequence[Run], key: str) -> Plot | None:
    from r1mega.report.plots import metric_plot, parts_plot

    values = [value for run in runs for _, value in run.curve(key)]
    if not values or (key in HIDDEN_WHEN_ZERO and not any(values)):
        return None
    metric = METRICS.get(key)
    label = metric.label if metric else key.replace("reward_", "reward: ").replace("_", " ")
    caption = PART_CAPTION if key in _parts(runs) else metric.meaning
    if key == "reward" and len(runs) == 1 and (parts := _parts(runs)):
        return Plot("reward and its parts", f"{caption}; each part unweighted",
                    Markup(parts_plot(runs[0], (key, *parts))))
    return Plot(label, caption, Markup(metric_plot(runs, key)))


def _truth(run: Run) -> Plot | None:
    from r1mega.report.plots import truth_plot

    kinds = [kind for kind in ("preference", "accuracy") if run.curve(f"reward_{kind}")]
    if not kinds or not run.curve("heldout_pass_at_1"):
        return None
    return Plot("reward and held-out truth", f"the {kinds[0]} reward of training, and what no reward sees",
                Markup(truth_plot(run)))


def _phases(runs: Sequence[Run]) -> Plot | None:
    from r1mega.report.plots import phases_plot

    if not any(run.curve(key) for run in runs for key in PHASES):
        return None
    return Plot("time per phase", "seconds of a step" if len(runs) == 1 else "minutes of a whole run",
                Markup(phases_plot(runs)))


def _parts(runs: Sequence[Run]) -> list[str]:
    keys = {key for run in runs for record in run.metrics for key in record}
    return sorted(key for key in keys if key.startswith("reward_") and key not in PHASES)


def _cards(figures: Sequence[Headline]) -> list[tuple[str, str, str]]:
    """(heading, figure, note) of the boxes at the top; several runs are averaged."""
    cards = []
    evaluated = [figure.evaluations for figure in figures if figure.evaluations]
    if evaluated:
        cards.append(_heldout_card(evaluated))
    rewarded = any(figure.reward for figure in figures)
    for name, note in (("reward", ENDS), ("response_tokens", "tokens a completion"), ("loss", ENDS)):
        ends = [getattr(figure, name) for figure in figures if getattr(figure, name) is not None]
        if ends and not (name == "loss" and rewarded):  # the loss of RL says little
            start, end = (mean([pair[i] for pair in ends]) for i in (0, 1))
            form = "{:,.0f}" if name == "response_tokens" else "{:.2f}"
            cards.append((METRICS[name].label, f"{form.format(start)} → {form.format(end)}", note))
    steps = {figure.steps for figure in figures}
    tokens = number(mean([figure.tokens for figure in figures]), "count")
    cards.append(("steps", " / ".join(f"{step:,}" for step in sorted(steps)),
                  f"{tokens} tokens trained on" if any(figure.tokens for figure in figures) else ""))
    rates = [figure.tokens_per_s for figure in figures if figure.tokens_per_s is not None]
    cards.append(("time" if len(figures) == 1 else "time a run", duration(mean([f.seconds for f in figures])),
                  f"{number(mean(rates), 'count')} tokens/s (median step)" if rates else ""))
    return cards


def _heldout_card(evaluated: Sequence[Any]) -> tuple[str, str, str]:
    first, last = (mean([found[i].pass_at_1 for found in evaluated]) for i in (0, -1))
    figure = number(last, "percent") if all(len(found) == 1 for found in evaluated) else (
        f"{number(first, 'percent')} → {number(last, 'percent')}")
    end = evaluated[0][-1]
    if len(evaluated) > 1:
        ends = [found[-1].pass_at_1 for found in evaluated]
        note = f"{len(evaluated)} runs end at {100 * min(ends):.1f} to {100 * max(ends):.1f}%"
    elif end.low is not None:
        note = f"95% interval {100 * end.low:.1f} to {100 * end.high:.1f}%"
    else:
        note = ""
    if end.problems:
        samples = f" × {end.samples}" if end.samples else ""
        note = "; ".join(filter(None, [note, f"{end.problems} problems{samples}"]))
    return METRICS["heldout_pass_at_1"].label, figure, note

"""One compact figure of what a run learned, for a README."""

from collections.abc import Sequence
from pathlib import Path

from r1mega.config import UserError
from r1mega.report.run import read_run

FORMATS = (".svg", ".png")
CURVES = ("reward", "response_tokens", "kl")


def plot_curves(runs: Sequence[Path], output: Path) -> Path:
    """Held-out pass@1 (or, without evaluations, the pass rate or loss), and three small curves beside it.

    The format follows the suffix of `output`, .svg or .png; an SVG is the same bytes for the same runs.

    Raises:
        UserError: another suffix, no run, a damaged run folder, or nothing to draw.
    """
    if output.suffix not in FORMATS:
        raise UserError(f"{output}: a figure ends in {' or '.join(FORMATS)}")
    if not runs:
        raise UserError("plot: no run given; name at least one run folder, e.g. runs/tiny-zero")
    loaded = [read_run(run) for run in runs]

    import matplotlib  # here, since it takes a second that `import r1mega.report` need not
    from matplotlib.figure import Figure

    from r1mega.report.plots import draw_heldout, draw_metric
    from r1mega.report.svg import PAPER, STYLE

    main = next((key for key in ("heldout_pass_at_1", "pass_rate", "loss")
                 if any(run.curve(key) for run in loaded)), None)
    if main is None:
        raise UserError(f"{runs[0]}: nothing to draw yet; no step has been recorded")
    beside = [key for key in (*CURVES, "mtp_loss", "grad_norm") if any(run.curve(key) for run in loaded)][:3]
    with matplotlib.rc_context({**STYLE, "svg.fonttype": "path", "svg.hashsalt": "r1mega", "font.size": 9}):
        figure = Figure(figsize=(9.2, 3.3), layout="constrained", facecolor=PAPER)
        grid = figure.add_gridspec(max(len(beside), 1), 2, width_ratios=(1.75, 1))
        axes = figure.add_subplot(grid[:, 0] if beside else grid[:, :])
        if main == "heldout_pass_at_1":
            draw_heldout(axes, loaded)
        else:
            draw_metric(axes, loaded, main)
        _title(axes, main)
        for row, key in enumerate(beside):
            small = figure.add_subplot(grid[row, 1])
            draw_metric(small, loaded, key)
            _title(small, key)
            if row < len(beside) - 1:
                small.set_xlabel("")
                small.tick_params(labelbottom=False)
        metadata = {"Date": None, "Creator": None} if output.suffix == ".svg" else {"Software": None}
        figure.savefig(output, dpi=160, metadata=metadata)
    return output


def _title(axes: object, key: str) -> None:
    from r1mega.record.metric import METRICS

    axes.set_title(METRICS[key].label, loc="left", fontsize=10)

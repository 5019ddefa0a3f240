"""matplotlib figures as SVG: deterministic, small, and coloured by the page that holds them."""

import io
import re

import matplotlib
from matplotlib.figure import Figure

INK, MUTED, GRID, PAPER = "#1f2430", "#667085", "#e4e7ec", "#fffffe"
SERIES = ("#2f6fed", "#e07a1f", "#12966a", "#8b54d9", "#d6455d", "#1590a8", "#8a6d3b", "#5b6b8c")
VARIABLES = {INK: "--ink", MUTED: "--muted", GRID: "--grid", PAPER: "--paper",
             **{colour: f"--series-{i}" for i, colour in enumerate(SERIES)}}
STYLE = {
    "svg.fonttype": "none", "font.size": 9.5, "text.color": INK, "axes.labelcolor": MUTED,
    "axes.edgecolor": GRID, "axes.linewidth": 1.0, "axes.spines.top": False, "axes.spines.right": False,
    "axes.grid": True, "axes.axisbelow": True, "grid.color": GRID, "grid.linewidth": 0.8,
    "xtick.color": MUTED, "ytick.color": MUTED, "xtick.labelcolor": MUTED, "ytick.labelcolor": MUTED,
    "xtick.major.size": 0, "ytick.major.size": 0, "xtick.minor.size": 0, "ytick.minor.size": 0,
    "legend.frameon": False, "legend.fontsize": 9, "figure.facecolor": "none", "axes.facecolor": "none",
    "axes.prop_cycle": matplotlib.cycler(color=SERIES), "lines.linewidth": 1.8,
    "lines.solid_capstyle": "round", "path.simplify_threshold": 0.5, "axes.formatter.useoffset": False,
    "axes.formatter.limits": (-3, 5),
}


def inline_svg(figure: Figure, name: str) -> str:
    """`figure` as an element for an HTML page.

    Text stays text, in the page's font. Colours of this file become CSS variables, so that the page decides
    on light and dark. No XML head, no metadata, no namespaces, hence no URL of any kind; the same figure
    gives the same bytes. `name` keeps the ids of several figures on one page apart.
    """
    buffer = io.StringIO()
    with matplotlib.rc_context({"svg.hashsalt": name}):
        figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    svg = buffer.getvalue()
    svg = svg[svg.index("<svg"):]
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    svg = re.sub(r'<svg [^>]*?viewBox="([^"]+)"[^>]*>', r'<svg viewBox="\1" role="img">', svg, count=1)
    svg = svg.replace("xlink:href", "href")
    svg = re.sub(r"font: ([\d.]+px)[^;\"]*", r"font-size: \1", svg)
    svg = re.sub(r"<!--.*?-->\n?", "", svg, flags=re.DOTALL)
    svg = _without_idle_ids(svg)
    for colour, variable in VARIABLES.items():
        svg = svg.replace(colour, f"var({variable})")
    svg = re.sub(r">\s+<", "><", svg)
    return svg.strip()


def _without_idle_ids(svg: str) -> str:
    """Ids that nothing refers to are the same in every figure; two on one page would be one too many."""
    used = set(re.findall(r'(?:href="#|url\(#)([^")]+)', svg))
    return re.sub(r' id="([^"]*)"', lambda match: match[0] if match[1] in used else "", svg)

"""Records as SVG, written by hand: time against tokens, both logarithmic, with the measured floor below."""

import math
from html import escape
from typing import Any

from r1mega_kernels.benchmarks.record import Record

Row = dict[str, Any]
Points = list[tuple[float, float]]

WIDTH, HEIGHT, LEGEND_WIDTH = 460, 340, 230
LEFT, TOP, BOTTOM = 62, 40, 44
COLOURS = ("#0b57d0", "#e8710a", "#188038", "#a142f4", "#d93025", "#12858d", "#8a6d00", "#b80672", "#5f6368", "#3c7d22")
FLOOR = "measured floor"


def plots(record: Record) -> dict[str, str]:
    """SVG by file name, one for each operation and vocabulary that has a time."""
    done = [row for row in record.data["rows"] if row["status"] == "ok"]
    found = {}
    for operation, vocab in sorted({(row["operation"], row["vocab"]) for row in done}):
        rows = [row for row in done if (row["operation"], row["vocab"]) == (operation, vocab)]
        title = f"{operation}, V = {vocab:,}, {record.data['machine']['device']} ({record.data['kind']})"
        found[f"{operation}-{vocab}.svg"] = _svg(rows, title)
    return found


def _svg(rows: list[Row], title: str) -> str:
    names = list(dict.fromkeys(row["peer"] for row in rows))
    colours = {name: COLOURS[i % len(COLOURS)] for i, name in enumerate(names)}
    width, height = 2 * (LEFT + WIDTH) + LEGEND_WIDTH, TOP + HEIGHT + BOTTOM
    body = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" font-family="sans-serif" '
        'font-size="12">',
        f'<rect width="{width}" height="{height}" fill="white"/>',
        f'<text x="{LEFT}" y="16" font-size="14">{escape(title)}</text>',
    ]
    for i, part in enumerate(("forward", "both")):
        series = {name: _points(rows, name, part) for name in names}
        # who makes the gradient in the forward pass has no forward to be compared
        series = {name: points for name, points in series.items() if points}
        series[FLOOR] = sorted({row["tokens"]: row["floor_ms"][part] for row in rows}.items())
        shown = "forward" if part == "forward" else "forward + backward"
        body += _panel(series, colours, LEFT + i * (LEFT + WIDTH), f"{shown}, ms")
    body += _legend(colours, 2 * (LEFT + WIDTH) + 16)
    return "\n".join([*body, "</svg>"]) + "\n"


def _points(rows: list[Row], name: str, part: str) -> Points:
    return sorted((row["tokens"], row[part]["median_ms"]) for row in rows
                  if row["peer"] == name and (part == "both" or not row["gradient_in_forward"]))


def _panel(series: dict[str, Points], colours: dict[str, str], left: float, label: str) -> list[str]:
    """One pair of axes with a line for each peer."""
    tokens = sorted({x for points in series.values() for x, _ in points})
    times = [y for points in series.values() for _, y in points]
    low_x, high_x = math.log2(tokens[0]) - 0.2, math.log2(tokens[-1]) + 0.2
    low_y, high_y = math.floor(math.log10(min(times))), math.ceil(math.log10(max(times)) + 1e-9)

    def at(x: float, y: float) -> tuple[float, float]:
        across = (math.log2(x) - low_x) / (high_x - low_x)
        up = (math.log10(y) - low_y) / max(high_y - low_y, 1)
        return left + across * WIDTH, TOP + (1 - up) * HEIGHT

    body = [f'<rect x="{left}" y="{TOP}" width="{WIDTH}" height="{HEIGHT}" fill="none" stroke="#888"/>',
            f'<text x="{left}" y="{TOP - 6}">{label}</text>',
            f'<text x="{left + WIDTH / 2}" y="{TOP + HEIGHT + 36}" text-anchor="middle">tokens</text>']
    for count in tokens:
        x, _ = at(count, 10.0**low_y)
        body.append(f'<text x="{x:.1f}" y="{TOP + HEIGHT + 16}" text-anchor="middle">{count}</text>')
    for power in range(low_y, high_y + 1):
        _, y = at(tokens[0], 10.0**power)
        body += [f'<line x1="{left}" y1="{y:.1f}" x2="{left + WIDTH}" y2="{y:.1f}" stroke="#ddd"/>',
                 f'<text x="{left - 6}" y="{y + 4:.1f}" text-anchor="end">{10.0**power:g}</text>']
    for name, points in series.items():
        body += _line([at(*point) for point in points], colours.get(name), name.startswith("r1mega"))
    return body


def _line(points: Points, colour: str | None, ours: bool) -> list[str]:
    """No colour: the floor, dashed and black."""
    path = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
    dashes = ' stroke-dasharray="5 4"' if colour is None else ""
    colour = colour or "black"
    body = [f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="{3 if ours else 1.5}"{dashes}/>']
    if not dashes:
        body += [f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3" fill="{colour}"/>' for x, y in points]
    return body


def _legend(colours: dict[str, str], left: float) -> list[str]:
    body = []
    for i, (name, colour) in enumerate([*colours.items(), (FLOOR, "black")]):
        y = TOP + 12 + 18 * i
        dashes = ' stroke-dasharray="5 4"' if name == FLOOR else ""
        body += [f'<line x1="{left}" y1="{y}" x2="{left + 24}" y2="{y}" stroke="{colour}" stroke-width="3"{dashes}/>',
                 f'<text x="{left + 30}" y="{y + 4}">{escape(name)}</text>']
    return body

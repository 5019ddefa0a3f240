"""Records as Markdown: the verdicts, a table a shape, and what could not be compared."""

from typing import Any

from r1mega_kernels.benchmarks.acceptance import Line, lines
from r1mega_kernels.benchmarks.record import Record

Row = dict[str, Any]

COLUMNS = ("peer", "version", "computes", "forward ms", "backward ms", "both ms", "p10-p90 ms", "share of ceiling",
           "TB/s or TF/s", "bytes/logit paid", "peak MiB", "error vs fp64", "+ TP messages ms")
LEGEND = """Times are medians of repetitions with a cold L2; p10-p90 is of the whole. "In forward": the gradient is made
in the forward pass, so that only the whole can be compared. Share of ceiling: the floor of the whole over its time. The
floor is 6 bytes a logit (read; read and write) at the measured copy rate, or the three products of the head as torch.mm
did them in bf16; one kernel that keeps a row on chip needs 4 bytes and may pass 100 %. TB/s: those 6 bytes a logit over
the time; TF/s: 6 T H V operations over it. Bytes/logit paid: what the copy would have moved in that time. Peak: beside
the inputs and the gradients handed out. Error: the largest of the loss, then of each gradient relative to its norm.
TP messages: **modelled** from latency and bandwidth, not measured."""


def markdown(records: list[Record]) -> str:
    parts = ["# Kernels beside their peers", verdicts(lines(records)), LEGEND]
    for record in records:
        parts.append(_head(record))
        shapes = sorted({(row["operation"], -row["vocab"], row["tokens"], row["hidden"])
                         for row in record.data["rows"]})
        for operation, vocab, tokens, hidden in shapes:
            rows = [row for row in record.data["rows"]
                    if (row["operation"], -row["vocab"], row["tokens"], row["hidden"])
                    == (operation, vocab, tokens, hidden)]
            parts.append(_table(rows, record))
        parts.append(_absent(record))
    return "\n\n".join(part for part in parts if part) + "\n"


def verdicts(found: list[Line]) -> str:
    rows = [f"| {line.verdict} | {line.text} | {line.detail.replace('|', '/')} |" for line in found]
    return "\n".join(["| verdict | line | |", "|---|---|---|", *rows])


def _head(record: Record) -> str:
    data = record.data
    ceiling = data["ceilings"].get("copy_bytes_per_s")
    about = [
        f"## {data['kind']}, {data['machine']['device']}, {data['date']}",
        f"`{data['command']}`",
        "machine: " + ", ".join(f"{name} {value}" for name, value in data["machine"].items() if name != "device"),
        "versions: " + ", ".join(f"{name} {value}" for name, value in data["versions"].items()),
        f"seed {data['plan']['seed']}; measured copy rate "
        + ("none" if ceiling is None else f"{ceiling / 1e12:.3f} TB/s, read and written"),
    ]
    return "\n\n".join(about)


def _table(rows: list[Row], record: Record) -> str:
    first = rows[0]
    title = f"### {first['operation']}, T = {first['tokens']:,}, V = {first['vocab']:,}"
    title += f", H = {first['hidden']:,}" if first["hidden"] else ""
    done = sorted((row for row in rows if row["status"] == "ok"), key=lambda row: row["both"]["median_ms"])
    if not done:
        return ""
    floor = done[0]["floor_ms"]
    title += f" (floor {floor['forward']:.3f} + {floor['backward']:.3f} ms)"
    heads = ["| " + " | ".join(COLUMNS) + " |", "|" + "---|" * len(COLUMNS)]
    ceiling = record.data["ceilings"]["copy_bytes_per_s"]
    return "\n".join([title, "", *heads, *(_cells(row, ceiling) for row in done)])


def _cells(row: Row, ceiling: float) -> str:
    both_ms = row["both"]["median_ms"]
    logits = row["tokens"] * row["vocab"]
    if row["operation"] == "linear":
        rate, paid = f"{6 * logits * row['hidden'] / both_ms / 1e9:.1f} TF/s", ""
    else:
        rate, paid = f"{6 * logits / both_ms / 1e9:.3f} TB/s", f"{ceiling * both_ms / 1e3 / logits:.1f}"
    backward = "in forward" if row["gradient_in_forward"] else f"{row['backward']['median_ms']:.3f}"
    peak = "" if row["peak_bytes"] is None else f"{row['peak_bytes'] / 2**20:.0f}"
    modelled = row["modelled_collective_ms"]
    errors = ", ".join(f"{value:.1e}" for name, value in row["errors"].items() if name != "entropy")
    cells = (row["peer"], row["version"], row["computes"], f"{row['forward']['median_ms']:.3f}", backward,
             f"{both_ms:.3f}", f"{row['both']['p10_ms']:.3f}-{row['both']['p90_ms']:.3f}",
             f"{row['floor_ms']['both'] / both_ms:.0%}", rate, paid, peak, errors,
             "" if modelled is None else f"{modelled:.3f}")
    return "| " + " | ".join(str(cell) for cell in cells) + " |"


def _absent(record: Record) -> str:
    """Everything that has no time, with the reason; a peer that has the same one everywhere is named once."""
    reasons: dict[tuple[str, str, str], list[str]] = {}
    for row in record.data["rows"]:
        if row["status"] != "ok":
            key = row["operation"], row["peer"], row["status"]
            reasons.setdefault(key, []).append(f"T={row['tokens']} V={row['vocab']}")
    if not reasons:
        return ""
    said = []
    for (operation, peer, status), shapes in reasons.items():
        where = "" if len(shapes) == _shapes(record, operation) else f" ({', '.join(shapes)})"
        said.append(f"- {operation}, {peer}: {status}{where}")
    return "\n".join(["### Not compared", "", *said])


def _shapes(record: Record, operation: str) -> int:
    return len({(row["tokens"], row["vocab"]) for row in record.data["rows"] if row["operation"] == operation})

"""The lines that the kernels must meet, each passed, failed or unmeasured; from records only."""

from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

from r1mega_kernels.benchmarks.plan import HEADLINE, HIDDEN, VOCABS
from r1mega_kernels.benchmarks.record import MEASURED, Record

PASS, FAIL, UNMEASURED = "pass", "fail", "unmeasured"
NEAR_FLOOR, LINEAR_MS = 1.15, 66.0
OURS = "r1mega triton"

Row = dict[str, Any]


class Line(NamedTuple):
    text: str
    verdict: str
    detail: str


def lines(records: Iterable[Record]) -> list[Line]:
    """Of the rows that were measured on a GPU; later records take the place of earlier ones."""
    measured = [record for record in records if record.data["kind"] == MEASURED]
    rows = {}
    for record in measured:
        for row in record.data["rows"]:
            budget = record.data["plan"]["budget_bytes"]
            key = row["operation"], row["tokens"], row["vocab"], row["hidden"], row["peer"]
            rows[key] = row | {"budget_bytes": budget}
    found = list(rows.values())
    checks = [check for record in measured for check in record.data.get("self_check", [])]
    return [
        _exact(checks),
        *(_near_floor(found, part, vocab) for part in ("forward", "backward") for vocab in VOCABS),
        *(_ahead(found, operation, part) for operation, part in (
            ("logits", "forward"), ("logits", "backward"), ("logits", "both"), ("grpo", "both"))),
        _linear(found, f"under {LINEAR_MS:g} ms", _fast_enough),
        _ahead([row for row in found if _is_headline(row)], "linear", "both"),
        _linear(found, "peak memory beside inputs and results within the byte budget", _within_budget),
    ]


def _exact(checks: list[Row]) -> Line:
    text = "self-check against fp64, on the device"
    if not checks:
        return Line(text, UNMEASURED, "")
    failed = [f"{check['check']}: {check['error']:.3g} > {check['bound']:.3g}"
              for check in checks if not check["passed"]]
    return Line(text, FAIL if failed else PASS, "; ".join(failed) or f"{len(checks)} checks")


def _near_floor(rows: list[Row], part: str, vocab: int) -> Line:
    text = f"logits, T={HEADLINE}, V={vocab}: {part} within {NEAR_FLOOR} x the measured memory floor"
    row = _one(rows, ("logits", HEADLINE, vocab, 0, OURS))
    if row is None or row["status"] != "ok":
        return Line(text, UNMEASURED, "" if row is None else row["status"])
    ratio = row[part]["median_ms"] / row["floor_ms"][part]
    return Line(text, PASS if ratio <= NEAR_FLOOR else FAIL,
                f"{row[part]['median_ms']:.3f} ms, floor {row['floor_ms'][part]:.3f} ms: {ratio:.2f} x")


def _ahead(rows: list[Row], operation: str, part: str) -> Line:
    """Ours against each peer at every shape that both have; the best of ours for the whole, the plain one for parts.

    Whoever makes the gradient in the forward pass has parts that mean something else, and is compared by the whole.
    """
    at = f"T={HEADLINE}, H={HIDDEN}, V={VOCABS[0]}" if operation == "linear" else "at every shape"
    text = f"{operation}, {at}: {part} ahead of every peer"
    rows = [row for row in rows if row["operation"] == operation and not row["peer"].startswith("r1mega reference")]
    done = [row for row in rows if row["status"] == "ok" and (part == "both" or not row["gradient_in_forward"])]
    behind, compared = [], set()
    for peer in (row for row in done if not row["ours"]):
        ours = [row[part]["median_ms"] for row in done if row["ours"] and _shape(row) == _shape(peer)]
        if ours:
            compared.add(peer["peer"])
            if min(ours) >= peer[part]["median_ms"]:
                behind.append(f"{peer['peer']} at T={peer['tokens']}, V={peer['vocab']}: "
                              f"{peer[part]['median_ms']:.3f} ms, ours {min(ours):.3f}")
    if not compared:
        return Line(text, UNMEASURED, "no peer to compare with")
    others = {row["peer"]: row["status"] for row in rows if not row["ours"] and row["status"] != "ok"}
    missing = "; ".join(f"{name} {status}" for name, status in others.items() if name not in compared)
    return Line(text, FAIL if behind else PASS, "; ".join(behind) or (
        f"{len(compared)} peers" + (f" (not compared: {missing})" if missing else "")))


def _linear(rows: list[Row], what: str, judge: Callable[[Row], tuple[bool, str] | None]) -> Line:
    text = f"linear, T={HEADLINE}, H={HIDDEN}, V={VOCABS[0]}: forward and backward {what}"
    row = _one(rows, ("linear", HEADLINE, VOCABS[0], HIDDEN, OURS))
    judged = None if row is None or row["status"] != "ok" else judge(row)
    if judged is None:
        return Line(text, UNMEASURED, "" if row is None else row["status"])
    return Line(text, PASS if judged[0] else FAIL, judged[1])


def _fast_enough(row: Row) -> tuple[bool, str]:
    took = row["both"]["median_ms"]
    return took < LINEAR_MS, f"{took:.2f} ms, GEMM floor {row['floor_ms']['both']:.2f} ms"


def _within_budget(row: Row) -> tuple[bool, str] | None:
    if row["peak_bytes"] is None:
        return None
    return row["peak_bytes"] <= row["budget_bytes"], (
        f"{row['peak_bytes'] / 2**20:.1f} MiB of {row['budget_bytes'] / 2**20:.1f}")


def _is_headline(row: Row) -> bool:
    return _shape(row) == ("linear", HEADLINE, VOCABS[0], HIDDEN)


def _shape(row: Row) -> tuple[str, int, int, int]:
    return row["operation"], row["tokens"], row["vocab"], row["hidden"]


def _one(rows: list[Row], key: tuple[str, int, int, int, str]) -> Row | None:
    return next((row for row in rows if (*_shape(row), row["peer"]) == key), None)

"""Verdicts, table and plot, from records made by hand."""

import xml.etree.ElementTree
from pathlib import Path

import pytest
from r1mega_kernels.benchmarks.__main__ import main
from r1mega_kernels.benchmarks.acceptance import lines
from r1mega_kernels.benchmarks.plot import plots
from r1mega_kernels.benchmarks.record import MEASURED, REHEARSAL, SCHEMA, Record, read_all
from r1mega_kernels.benchmarks.table import markdown

BUDGET = 1 << 30
FLOOR = {"forward": 0.7, "backward": 1.4, "both": 2.1}


def timing(ms: float) -> dict[str, float]:
    return {"median_ms": ms, "p10_ms": 0.9 * ms, "p90_ms": 1.1 * ms, "repetitions": 7}


def row(operation: str, peer: str, times: tuple[float, float, float], **fields) -> dict:
    forward, backward, both = times
    linear = operation == "linear"
    return {
        "operation": operation, "tokens": 8192, "vocab": 129280, "hidden": 7168 if linear else 0, "peer": peer,
        "package": "p", "version": "1.0", "computes": "NLL", "ours": peer.startswith("r1mega"),
        "gradient_in_forward": False, "status": "ok", "forward": timing(forward), "backward": timing(backward),
        "both": timing(both), "first_call_ms": 100.0, "errors": {"loss": 1e-6, "entropy": 2e-6, "gradient": 3e-4},
        "floor_ms": {"forward": 19.0, "backward": 38.0, "both": 57.0} if linear else FLOOR, "result_bytes": 0,
        "peak_bytes": 1 << 20, "forward_peak_bytes": 1 << 20, "modelled_collective_ms": None,
    } | fields


def record(rows: list[dict], kind: str = MEASURED, checks: tuple[bool, ...] = (True,)) -> Record:
    return Record(Path("all.json"), {
        "schema": SCHEMA, "kind": kind, "command": "python -m r1mega_kernels.benchmarks all", "date": "2030-01-01",
        "machine": {"device": "a GPU", "driver_version": "1"}, "versions": {"torch": "2"},
        "plan": {"seed": 0, "budget_bytes": BUDGET}, "deadline": 0.0, "ceilings": {"copy_bytes_per_s": 3.0e12},
        "self_check": [{"check": "log p", "error": 1e-6 if good else 1.0, "bound": 5e-6, "passed": good}
                       for good in checks],
        "rows": rows,
    })


GOOD = [
    row("logits", "r1mega triton", (0.75, 1.5, 2.2)),
    row("logits", "r1mega triton", (0.75, 1.5, 2.2), vocab=16160),
    row("logits", "other", (0.9, 1.6, 2.4)),
    row("logits", "one kernel", (2.3, 0.0, 2.3), gradient_in_forward=True),
    row("grpo", "r1mega triton", (2.0, 0.1, 2.1), gradient_in_forward=True),
    row("grpo", "other", (1.0, 1.5, 2.5)),
    row("linear", "r1mega triton", (64.0, 0.0, 64.0), gradient_in_forward=True, peak_bytes=BUDGET),
    row("linear", "other", (30.0, 50.0, 80.0)),
]


def verdict(records: list[Record], part: str) -> tuple[str, str]:
    found = [(line.verdict, line.detail) for line in lines(records) if part in line.text]
    assert len(found) == 1, part
    return found[0]


def with_row(new: dict) -> list[dict]:
    key = "operation", "tokens", "vocab", "peer"
    return [old for old in GOOD if [old[name] for name in key] != [new[name] for name in key]] + [new]


def test_a_record_that_meets_all_lines_passes_all() -> None:
    assert {line.verdict for line in lines([record(GOOD)])} == {"pass"}
    assert verdict([record(GOOD)], "V=129280: forward within") == ("pass", "0.750 ms, floor 0.700 ms: 1.07 x")


@pytest.mark.parametrize(("text", "failing", "detail"), [
    ("V=129280: forward within", row("logits", "r1mega triton", (0.81, 1.5, 2.2)), "1.16 x"),
    ("V=16160: backward within", row("logits", "r1mega triton", (0.75, 1.7, 2.2), vocab=16160), "1.21 x"),
    ("logits, at every shape: forward ahead", row("logits", "other", (0.75, 1.6, 2.4)), "other at T=8192"),
    ("logits, at every shape: backward ahead", row("logits", "other", (0.9, 1.4, 2.4)), "1.400 ms, ours 1.500"),
    ("logits, at every shape: both ahead",
     row("logits", "one kernel", (2.1, 0.0, 2.1), gradient_in_forward=True), "one kernel at T=8192"),
    ("grpo, at every shape: both ahead", row("grpo", "other", (1.0, 1.0, 2.0)), "other"),
    ("under 66 ms", row("linear", "r1mega triton", (66.0, 0.0, 66.0)), "66.00 ms"),
    ("V=129280: both ahead", row("linear", "other", (30.0, 30.0, 60.0)), "other"),
    ("byte budget", row("linear", "r1mega triton", (64.0, 0.0, 64.0), peak_bytes=BUDGET + 1), "1024.0 MiB of 1024.0"),
])
def test_a_record_that_misses_a_line_fails_it_and_says_by_how_much(text: str, failing: dict, detail: str) -> None:
    missed, said = verdict([record(with_row(failing))], text)
    assert missed == "fail" and detail in said


def test_a_failed_self_check_fails() -> None:
    assert verdict([record(GOOD, checks=(True, False))], "self-check") == ("fail", "log p: 1 > 5e-06")


def test_a_rehearsal_leaves_every_line_unmeasured() -> None:
    assert {line.verdict for line in lines([record(GOOD, kind=REHEARSAL)])} == {"unmeasured"}
    assert {line.verdict for line in lines([])} == {"unmeasured"}


def test_without_ours_or_without_peers_there_is_no_verdict() -> None:
    broken = with_row(row("logits", "r1mega triton", (0.75, 1.5, 2.2), status="failed: out of memory"))
    assert verdict([record(broken)], "V=129280: forward within") == ("unmeasured", "failed: out of memory")
    alone = [each for each in GOOD if each["ours"]]
    assert verdict([record(alone)], "linear, T=8192, H=7168, V=129280: both")[0] == "unmeasured"


def test_a_peer_that_did_not_run_is_named_beside_the_verdict() -> None:
    rows = [*GOOD, row("logits", "absent", (0, 0, 0), status="not installed")]
    assert verdict([record(rows)], "logits, at every shape: forward") == (
        "pass", "1 peers (not compared: absent not installed)")


def test_another_library_is_compared_only_where_both_have_a_time() -> None:
    rows = [*GOOD, row("logits", "other", (0.1, 0.1, 0.1), tokens=256)]
    assert verdict([record(rows)], "logits, at every shape: forward")[0] == "pass"


def test_the_table_says_what_is_measured_modelled_and_missing() -> None:
    rows = [*GOOD, row("logits", "absent", (0, 0, 0), status="not installed"),
            row("logits", "sharded", (1.0, 2.0, 3.0), vocab=16160, modelled_collective_ms=0.0216)]
    text = markdown([record(rows)])
    (ours,) = (line for line in text.splitlines() if line.startswith("| r1mega triton |") and "2.888 TB/s" in line)
    # 6 bytes x 8192 x 129280 in 2.2 ms is 2.888 TB/s; the copy would have moved 6.2 bytes a logit at 3 TB/s
    assert "| 95% | 2.888 TB/s | 6.2 | 1 | 1.0e-06, 3.0e-04 |" in ours
    assert "| in forward |" in text and "| 0.022 |" in text and "**modelled**" in text
    assert "- logits, absent: not installed (T=8192 V=129280)" in text
    assert "### linear, T = 8,192, V = 129,280, H = 7,168 (floor 19.000 + 38.000 ms)" in text


def test_a_plot_is_well_formed_and_has_a_line_for_each_peer_and_the_floor() -> None:
    rows = [*GOOD, row("logits", "r1mega triton", (0.1, 0.2, 0.3), tokens=256),
            row("logits", "<odd & name>", (1.0, 2.0, 3.0))]
    files = plots(record(rows))
    assert sorted(files) == ["grpo-129280.svg", "linear-129280.svg", "logits-129280.svg", "logits-16160.svg"]
    svg = files["logits-129280.svg"]
    root = xml.etree.ElementTree.fromstring(svg)
    curves = [element for element in root.iter() if element.tag.endswith("polyline")]
    # forward: ours, other, odd and the floor; forward and backward: one kernel too
    _, _, width, height = (float(number) for number in root.get("viewBox").split())
    points = [point.split(",") for curve in curves for point in curve.get("points").split()]
    assert all(0 < float(x) < width and 0 < float(y) < height for x, y in points)
    assert len(curves) == 4 + 5 and "&lt;odd &amp; name&gt;" in svg and "measured floor" in svg


def test_table_and_plot_are_made_from_the_files_alone(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    Record(tmp_path / "all.json", record(GOOD).data).write()
    assert main(["table", str(tmp_path)]) == 0
    assert "# Kernels beside their peers" in capsys.readouterr().out
    assert main(["plot", str(tmp_path), "--out", str(tmp_path / "plots")]) == 0
    assert len(list((tmp_path / "plots").glob("all-*.svg"))) == 4


def test_a_record_of_another_schema_is_refused(tmp_path: Path) -> None:
    Record(tmp_path / "old.json", record(GOOD).data | {"schema": 0}).write()
    with pytest.raises(ValueError, match="schema 0"):
        read_all(tmp_path)

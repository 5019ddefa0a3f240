"""Tables and plots of evaluations: every figure in its column, published ones apart."""

import json
from pathlib import Path

import pytest

from r1mega.cli.main import main
from r1mega.report.published import published_names, read_published
from r1mega.report.suite_result import read_results
from r1mega.report.suite_table import build_table, markdown_table

AIME = {"pass@1": (0.5, 0.4, 0.625), "pass@2": (0.6, 0.5, 0.7), "cons@2": (0.75, 0.5, 0.9)}


def write(
    folder: Path, model: str, suite: str, metrics: dict[str, tuple[float, float, float]], **about: object
) -> Path:
    """A results file as `r1mega evaluate` writes it, without its problems."""
    tree = {"format": "r1mega evaluation 1", "model": {"name": model, "digest": "0"},
            "suite": {"name": suite, "title": suite.upper(), "kind": "maths", "paper_row": None, "note": "",
                      "problems": 30, "dropped": 0} | about,
            "stamp": {"samples": 2, "suite": about.get("digest", "same")}, "rules": {"interval": "as it is"},
            "metrics": {name: dict(zip(("value", "low", "high"), three, strict=True))
                        for name, three in metrics.items()}}
    path = folder / model / f"{suite}.json"
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(tree))
    return path


def test_rows_are_suites_and_metrics_and_columns_are_models_in_the_order_given(tmp_path: Path):
    write(tmp_path, "zero", "aime", AIME)
    write(tmp_path, "base", "aime", {"pass@1": (0.125, 0.0, 0.25)})
    write(tmp_path, "base", "read", {"pass@1": (1.0, 0.9, 1.0), "f1": (1.0, 0.9, 1.0)})
    table = build_table(read_results([tmp_path / "base", tmp_path / "zero"]), None)
    assert table.head == ("", "base", "zero")
    assert table.rows == (
        ("AIME, pass@1", "12.5 (0.0 to 25.0)", "50.0 (40.0 to 62.5)"), ("AIME, cons@2", "-", "75.0 (50.0 to 90.0)"),
        ("READ, pass@1", "100.0 (90.0 to 100.0)", "-"), ("READ, f1", "100.0 (90.0 to 100.0)", "-"))


def test_published_figures_stand_beside_ours_in_columns_that_say_so(tmp_path: Path, capsys: pytest.CaptureFixture):
    write(tmp_path, "mine", "aime", AIME, paper_row="AIME 2024")
    published = read_published("r1-students")
    table = build_table(read_results([tmp_path / "mine"]), published)
    assert table.measured == 1 and table.head[1] == "mine"
    assert all(name.endswith("(published)") for name in table.head[2:])
    assert table.rows[0] == ("AIME, pass@1", "50.0 (40.0 to 62.5)", "28.9", "55.5", "69.7", "72.6", "50.4", "70.0")
    # cons@2 of ours is not their cons@64, which gets a row of its own without a figure of ours.
    assert table.rows[1][1:] == ("75.0 (50.0 to 90.0)", *["-"] * 6)
    (cons,) = [row for row in table.rows if row[0] == "AIME 2024, cons@64"]
    assert cons[1:] == ("-", "52.7", "83.3", "80.0", "83.3", "80.0", "86.7")
    assert any(published.source in note for note in table.notes)
    assert main(["compare", str(tmp_path / "mine"), "--published", "r1-students"]) == 0
    for line in capsys.readouterr().out.splitlines()[2:4]:
        ours, bar, theirs = line.partition("  |  ")
        assert bar and "(" in ours and "(" not in theirs


def test_the_published_tables_hold_what_the_papers_say():
    stages = read_published("r1-stages")
    assert stages.columns == ("R1-Zero", "R1 Dev1", "R1 Dev2", "R1 Dev3", "R1") and len(stages.rows) == 20
    assert stages.find("AIME 2024", "pass@1").values == (77.9, 59.0, 74.0, 78.1, 79.8)
    assert stages.find("DROP", "pass@1") is None and stages.find("DROP", "f1").values[-1] == 92.2
    assert published_names() == ["r1", "r1-stages", "r1-students"]
    for name in published_names():
        table = read_published(name)
        assert "arXiv" in table.source or "doi" in table.source
        assert all(len(row.values) == len(table.columns) for row in table.rows)


def test_differences_a_reader_must_know_are_noted(tmp_path: Path):
    write(tmp_path, "a", "aime", AIME, note="Ours is stricter.", dropped=3)
    write(tmp_path, "b", "aime", AIME, digest="other")
    notes = " ".join(build_table(read_results([tmp_path / "a", tmp_path / "b"]), None).notes)
    assert "Not all models were asked exactly the same" in notes and "Ours is stricter." in notes
    assert "3 problems are left out" in notes and "interval: as it is." in notes


def test_a_cell_of_markdown_cannot_be_ended_by_a_name(tmp_path: Path):
    write(tmp_path, "a|b", "aime", AIME)
    text = markdown_table(read_results([tmp_path / "a|b"]), None)
    assert text.splitlines()[:2] == ["|  | a\\|b |", "|---|---:|"]


def test_the_plot_is_drawn_the_same_every_time_with_published_figures_in_a_panel_of_their_own(tmp_path: Path):
    write(tmp_path, "base", "aime", {"pass@1": (0.125, 0.0, 0.25)}, paper_row="AIME 2024")
    write(tmp_path, "zero", "aime", AIME, paper_row="AIME 2024")
    command = ["compare", str(tmp_path / "base"), str(tmp_path / "zero"), "--published", "r1-stages", "--markdown",
               str(tmp_path / "t.md"), "--plot"]
    assert main([*command, str(tmp_path / "1.svg")]) == 0 and main([*command, str(tmp_path / "2.svg")]) == 0
    drawn = (tmp_path / "1.svg").read_text()
    assert drawn == (tmp_path / "2.svg").read_text()
    for text in ("base", "zero", "AIME", "measured, pass@1", "published: Nature", "R1 Dev2"):
        assert text in drawn
    assert drawn.count('id="axes_') == 2
    assert "| AIME, pass@1 | 12.5 (0.0 to 25.0) | 50.0 (40.0 to 62.5) | 77.9 |" in (tmp_path / "t.md").read_text()


def test_language_and_format_have_rows_and_a_panel_of_their_own(tmp_path: Path):
    for model, language in (("zero", 0.5), ("r1", 1.0)):
        write(tmp_path, model, "sums", {"pass@1": (0.5, 0.4, 0.6), "format": (1.0, 0.9, 1.0),
                                        "language": (language, 0.25, 1.0)})
    found = read_results([tmp_path / "zero", tmp_path / "r1"])
    assert build_table(found, None).rows[1:] == (
        ("SUMS, format", "100.0 (90.0 to 100.0)", "100.0 (90.0 to 100.0)"),
        ("SUMS, language", "50.0 (25.0 to 100.0)", "100.0 (25.0 to 100.0)"))
    assert main(["compare", str(tmp_path / "zero"), str(tmp_path / "r1"), "--plot", str(tmp_path / "x.svg")]) == 0
    drawn = (tmp_path / "x.svg").read_text()
    assert "measured, language (solid) and format (dotted)" in drawn and drawn.count('id="axes_') == 2


@pytest.mark.parametrize(("content", "said"), [
    ("{", "damaged"), ("[]", "is not a results file"), ('{"format": "r1mega evaluation 1"}', "damaged (lacks 'suite')"),
])
def test_a_file_that_is_no_result_is_named(tmp_path: Path, capsys: pytest.CaptureFixture, content: str, said: str):
    (tmp_path / "x.json").write_text(content)
    assert main(["compare", str(tmp_path / "x.json")]) == 2
    error = capsys.readouterr().err
    assert said in error and "x.json" in error and len(error.splitlines()) == 1


def test_mistakes_on_the_command_line(tmp_path: Path, capsys: pytest.CaptureFixture):
    path = str(write(tmp_path, "m", "aime", AIME))
    for words, said in (([path, path], "is of the same model (m)"), ([str(tmp_path)], "no results"),
                        ([path, "--published", "r2"], "legal: r1, r1-stages, r1-students"),
                        ([path, "--plot", "x.gif"], "use .svg, .png or .pdf"),
                        ([path, "--markdown", str(tmp_path / "no/t.md")], "in a folder that is there")):
        assert main(["compare", *words]) == 2
        assert said in capsys.readouterr().err

"""Suites on the page of a run: of one that trained and was evaluated, and of one that only evaluates."""

from pathlib import Path

from r1mega.report.page import write_report
from r1mega.report.suite_section import results_of_runs, suite_section
from tests.report.synthetic import write_run
from tests.report.test_suite_table import AIME, write

SUMS = {"pass@1": (0.5, 0.4, 0.625), "pass@2": (0.6, 0.5, 0.7), "language": (0.25, 0.125, 0.5)}


def evaluated(run: Path, model: str, metrics: dict[str, tuple[float, float, float]] = AIME) -> Path:
    """`run` with results of a model in its evaluation/."""
    written = write(run, model, "aime", metrics, note="Mind <this>.")
    (run / "evaluation").mkdir(exist_ok=True)
    written.rename(run / "evaluation/aime.json")
    (run / model).rmdir()
    return run


def test_a_run_with_results_shows_their_table_and_figure_and_one_without_does_not(tmp_path: Path):
    run = evaluated(write_run(tmp_path / "run", steps=3), "zero", SUMS)
    page = write_report([run]).read_text()
    assert "Models on suites" in page and "pass@1, language and format</h3>" in page
    for figure in ("50.0 (40.0 to 62.5)", "60.0 (50.0 to 70.0)", "25.0 (12.5 to 50.0)", "Mind &lt;this&gt;."):
        assert figure in page
    assert "Models on suites" not in write_report([write_run(tmp_path / "plain", steps=3)]).read_text()


def test_a_run_that_only_evaluates_has_a_page_too(tmp_path: Path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run/recipe.toml").write_text('name = "evaluated"\nstage = "evaluate"\n')
    page = write_report([evaluated(tmp_path / "run", "zero")]).read_text()
    assert "75.0 (50.0 to 90.0)" in page and "evaluation on suites" in page


def test_models_of_one_name_in_two_runs_are_told_apart(tmp_path: Path):
    runs = []
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        runs.append(evaluated(tmp_path / name, "zero"))
    assert [one.model for one in results_of_runs(runs)] == ["zero", "zero (two)"]
    assert results_of_runs([tmp_path]) == [] and suite_section([]) is None

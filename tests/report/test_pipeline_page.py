"""The page of a pipeline: claims, models on suites, stages, curves and samples, in one file that asks for nothing."""

import json
import re
from pathlib import Path

import pytest

from r1mega.config.pipeline import Claim
from r1mega.report.pipeline_page import StageSummary, write_pipeline_report
from tests.report.synthetic import write_run


def write_results(folder: Path, value: float) -> None:
    metrics = {"pass@1": {"value": value, "low": value - 0.05, "high": value + 0.05}}
    (folder / "evaluation").mkdir(parents=True)
    (folder / "evaluation" / "sums.json").write_text(json.dumps({
        "format": "r1mega evaluation 1", "model": {"name": "some-step60", "digest": "0"},
        "suite": {"name": "sums", "title": "Sums", "kind": "maths", "paper_row": None, "note": "<b>odd</b>",
                  "problems": 100, "dropped": 0},
        "stamp": {"samples": 4, "suite": "same"}, "rules": {}, "metrics": metrics, "run": {"seconds": 30.0}}))


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("runs")
    write_run(folder / "base-1", steps=20, evaluate_every=10)
    write_run(folder / "zero-2", steps=40, evaluate_every=10)
    (folder / "zero-2" / "report.html").write_text("a page of its own")
    write_results(folder / "evaluate.base-3", 0.125)
    write_results(folder / "evaluate.zero-4", 0.75)
    stages = [StageSummary("base", "pretrain", (), folder / "base-1", "done"),
              StageSummary("zero", "rl", ("base",), folder / "zero-2", "done"),
              StageSummary("cold", "rejection_sampling", ("zero",), folder / "cold-9", "waiting"),
              StageSummary("evaluate.base", "evaluate", ("base",), folder / "evaluate.base-3", "done"),
              StageSummary("evaluate.zero", "evaluate", ("zero",), folder / "evaluate.zero-4", "done")]
    claims = [Claim(say="zero far above base", stage="zero", than="base", by=0.4),
              Claim(say="zero knows all", stage="zero", than="base", by=0.9),
              Claim(say="r1 above zero", stage="cold", than="zero")]
    return write_pipeline_report("tiny-r1", stages, claims, folder / "report.html").read_text()


def cells(page: str, first: str) -> list[str]:
    row = re.search(rf"<tr><td[^>]*>(?:<a [^>]*>)?{re.escape(first)}(?:</a>)?</td>.*?</tr>", page, re.DOTALL).group(0)
    return [re.sub("<[^>]+>", "", cell).strip() for cell in re.findall("<td.*?</td>", row, re.DOTALL)]


def test_a_claim_stands_beside_its_figures_and_its_verdict(page: str):
    assert cells(page, "zero far above base") == [
        "zero far above base", "Sums", "pass@1 of zero 75.0%; pass@1 of base 12.5%", "+62.5 (+55.4 to +69.6)", "holds"]
    assert cells(page, "zero knows all")[-1] == "fails"
    assert cells(page, "r1 above zero")[-2:] == ["–", "unmeasured"]
    assert "1 of 3" in page and "1 fails, 1 open or unmeasured" in page


def test_models_are_named_by_their_stages_and_have_a_row_each(page: str):
    assert re.search(r"<td>zero</td>\s*<td>75.0 \(70.0 to 80.0\)</td>", page)
    assert re.search(r"<td>base</td>\s*<td>12.5 \(7.5 to 17.5\)</td>", page)


def test_every_stage_has_a_line_with_what_it_reads_and_what_it_cost(page: str):
    page = page[page.index("<h2>Stages</h2>"):]
    kind, reads, state, steps = cells(page, "zero")[1:5]
    assert (kind, reads, state, steps) == ("rl", "base", "done", "40")
    assert cells(page, "cold")[1:] == ["rejection_sampling", "zero", "waiting", "–", "–", "–", "–"]
    assert '<a href="zero-2/report.html">zero</a>' in page
    shares = [int(share) for share in re.findall(r"<td>(\d+)%</td></tr>", page)]
    assert sum(shares) in range(98, 103) and len(shares) == 4
    assert cells(page, "evaluate.zero")[-2] == "30.0 s"


def test_curves_and_samples_of_each_stage_are_on_the_page(page: str):
    assert page.count("<svg") >= 5
    ids = re.findall(r' id="([^"]+)"', page)
    assert len(ids) == len(set(ids))
    assert "A problem of each stage, early and late" in page


def test_the_page_asks_for_nothing_and_escapes_what_others_wrote(page: str):
    assert "http" not in page.replace("http-equiv", "") and "<script" not in page
    assert "&lt;b&gt;odd&lt;/b&gt;" in page

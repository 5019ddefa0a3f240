"""`r1mega search`: both methods spend the same tokens, and the figures are those of the records."""

import json
from pathlib import Path
from typing import Any

import pytest

from r1mega.cli.main import main
from r1mega.reward.suite_judge import Mark
from r1mega.stage.search_comparison import figures
from r1mega.stage.search_worth import votes
from tests.stage.test_suite import CHOICE, model_dir

__all__ = ["model_dir"]


@pytest.fixture(scope="module")
def compared(model_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:  # noqa: F811
    output = tmp_path_factory.mktemp("search") / "s.json"
    assert main(["search", str(model_dir), "--suite", CHOICE, "--output", str(output), "--separator", "o", "--budget",
                 "60", "--limit", "4", "--max-new-tokens", "6", "--branches", "3"]) == 0
    return json.loads(output.read_text())


def test_of_every_method_what_the_budget_pays_for_counts_and_nothing_more(compared: dict[str, Any]):
    for one in compared["methods"].values():
        assert len(one["records"]) == 4
        for record in one["records"]:
            generated = [row[0] for row in record["completions"]]
            assert generated == sorted(generated) and 60 - 6 <= generated[-1] <= 60


def test_a_search_descends_and_sampling_does_not_and_what_knows_the_answers_has_no_majority(compared: dict[str, Any]):
    methods = compared["methods"]
    assert methods["sampling"]["mean_depth"] == 0 < methods["search by votes"]["mean_depth"]
    assert set(methods["search by reward"]["metrics"]) == {"found"}
    assert set(methods["sampling"]["metrics"]) == {"found", "majority"}
    for record in methods["search by reward"]["records"]:
        assert all(row[4] == row[2] for row in record["completions"])


def test_figures_by_hand():
    rows = [[5, 0, False, "a", 0], [9, 2, True, "b", 0]]
    records = [{"completions": rows, "majority_right": False}, {"completions": rows[:1], "majority_right": False}]
    shown = figures(records, "votes")
    assert shown["metrics"]["found"]["value"] == 0.5 and shown["metrics"]["majority"]["value"] == 0
    assert shown["completions_a_problem"] == 1.5
    assert shown["mean_depth"] == pytest.approx(2 / 3) and shown["right_completions"] == pytest.approx(1 / 3)


def test_a_vote_counts_the_answers_so_far_and_no_answer_is_worth_nothing():
    marks = [Mark(False, answer, 0.0) for answer in ("a", "b", None, "a")]
    assert [votes(marks[:n]) for n in (1, 2, 3, 4)] == [1.0, 0.5, 0.0, 0.5]


@pytest.mark.parametrize(("words", "said"), [
    (["--budget", "0"], "--budget=0"), (["--separator", "\x00"], "is in none of the tokenizer's tokens"),
    (["--suite", "no.toml"], "no.toml"),
])
def test_what_cannot_be_is_refused(
    model_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture,  # noqa: F811
    words: list[str], said: str,
):
    monkeypatch.chdir(tmp_path)
    assert main(["search", str(model_dir), "--suite", CHOICE, *words]) == 2
    assert said in capsys.readouterr().err

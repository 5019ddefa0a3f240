"""Labels of steps, and a model that has learned from them, in a search."""

import json
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from r1mega.cli.main import main
from r1mega.config import LayoutConfig, UserError
from r1mega.data import Tokenizer
from r1mega.data.suites import SuiteProblem
from r1mega.data.suites.own_problems import recipe_problems
from r1mega.model import PolicySettings, add_scalar_head, build_policy
from r1mega.parallel import start, stop
from r1mega.record import Problem
from r1mega.reward.suite_judge import Mark, Marked
from r1mega.stage.process_reward import ProcessReward
from r1mega.stage.step_labels import _any_right
from r1mega.training.checkpoint import read_model_config, save_model_folder
from tests.stage.test_suite import CHOICE, model_dir

__all__ = ["model_dir"]
ZERO = Path(__file__).parents[2] / "configs/tiny/zero.toml"


@pytest.fixture(scope="module")
def process_dir(model_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:  # noqa: F811
    """A reward model that says something: a head with random weights."""
    folder, groups = tmp_path_factory.mktemp("process") / "p", start(LayoutConfig(), seed=0)
    config = read_model_config(model_dir)
    chunks = build_policy(config, groups, PolicySettings(), seed=9)
    add_scalar_head(chunks, "pointwise")
    torch.manual_seed(4)
    chunks[-1].scalar_head.pointwise.data.normal_()
    save_model_folder(folder, chunks, config, groups, model_dir / "tokenizer")
    stop()
    return folder


@pytest.fixture
def process(process_dir: Path) -> Iterator[ProcessReward]:
    groups = start(LayoutConfig(), seed=0)
    yield ProcessReward(process_dir, Tokenizer.load(process_dir / "tokenizer"), groups)
    stop()


def test_a_sequence_has_its_score_whatever_is_scored_beside_it(process: ProcessReward):
    sequences = [(5, 6, 7), (5, 6), (8,) * 20, (5, 6, 9)]
    together, alone = process.score(sequences), [process.score([one])[0] for one in sequences]
    assert together == pytest.approx(alone, abs=1e-6)
    assert len({round(score, 6) for score in together}) == 4 and all(0 < score < 1 for score in together)
    assert process.score([]) == []


def test_a_model_with_other_tokens_or_without_the_head_is_refused(
    process_dir: Path, model_dir: Path, monkeypatch: pytest.MonkeyPatch  # noqa: F811
):
    groups = start(LayoutConfig(), seed=0)
    try:
        tokenizer = Tokenizer.load(process_dir / "tokenizer")
        with pytest.raises(UserError):
            ProcessReward(model_dir, tokenizer, groups)
        monkeypatch.setattr(tokenizer, "digest", lambda: "other")
        with pytest.raises(UserError, match="another tokenizer"):
            ProcessReward(process_dir, tokenizer, groups)
    finally:
        stop()


def test_a_search_asks_it_and_best_is_the_completion_it_says_most_of(
    model_dir: Path, process_dir: Path, tmp_path: Path  # noqa: F811
):
    output = tmp_path / "s.json"
    assert main(["search", str(model_dir), "--suite", CHOICE, "--output", str(output), "--separator", "o", "--budget",
                 "60", "--limit", "3", "--max-new-tokens", "6", "--process-model", str(process_dir)]) == 0
    methods = json.loads(output.read_text())["methods"]
    assert list(methods) == ["sampling", "search by votes", "search by process", "search by reward"]
    for name in ("sampling", "search by process"):
        records = methods[name]["records"]
        assert all(0 < row[4] < 1 for record in records for row in record["completions"])
        best = [max(record["completions"], key=lambda row: row[4])[2] for record in records]
        assert methods[name]["metrics"]["best"]["value"] == sum(best) / 3
    assert "best" not in methods["search by votes"]["metrics"]


def test_rows_are_beginnings_of_completions_of_problems_that_are_trained_on(
    model_dir: Path, tmp_path: Path  # noqa: F811
):
    recipe = tmp_path / "zero.toml"
    (tmp_path / "data.jsonl").write_text("".join(f'{{"question": "q{n}", "answer": "{n}"}}\n' for n in range(60)))
    recipe.write_text(f'extends = "{ZERO}"\n[data]\nheldout_problems = 5\n[[data.sources]]\nkind = "files"\n'
                      'paths = ["data.jsonl"]\nscorer = "exact"\n')
    command = ["steps", str(model_dir), str(recipe), "--output", str(tmp_path / "rows.jsonl"), "--separator", "o",
               "--problems", "4", "--samples", "8", "--continuations", "1", "--max-new-tokens", "24"]
    assert main(command) == 0
    rows = [json.loads(line) for line in (tmp_path / "rows.jsonl").read_text().splitlines()]
    trained = [one.question for one in recipe_problems(recipe)[1].train[:4]]
    assert {row["prompt"] for row in rows} == set(trained)
    said = [(row["prompt"], row["response"]) for row in rows]
    assert len(set(said)) == len(said) and len({row["id"] for row in rows}) == len(rows)
    assert any(longer.startswith(text) and "o" in text and longer != text
               for prompt, text in said for other, longer in said if prompt == other)
    assert all(row["safe"] is False for row in rows)  # random weights answer nothing


def test_a_step_is_good_if_one_of_its_own_continuations_is_right():
    problems = [SuiteProblem(key, Problem("t", key, "yes")) for key in "ab"]

    class Judge:
        def judge(self, items):
            assert [problem.question for problem, _ in items] == ["a", "b", "b"]
            return [Marked(tuple(Mark(text == "9", text, 0.0) for text in texts), frozenset()) for _, texts in items]

    speaks = SimpleNamespace(tokenizer=SimpleNamespace(decode=lambda ids, skip_special: "".join(map(str, ids))))
    steps, ended = [(0, (1,)), (1, (1,)), (1, (2,))], [(9,), (1,), (2,), (3,), (4,), (9,)]
    assert _any_right(speaks, problems, steps, ended, Judge()) == [True, False, True]
    assert _any_right(speaks, problems, steps, ended, None) == []

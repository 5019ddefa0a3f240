"""Suites of a recipe's held-out problems, and stage evaluate: the same files whatever killed it."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from r1mega.cli.main import main
from r1mega.config import LayoutConfig, ModelConfig, load_recipe
from r1mega.config.data import BilingualSource, ChatTemplate
from r1mega.data.bilingual_problems import bilingual_problems
from r1mega.data.chat_template import save_template
from r1mega.data.split import split
from r1mega.data.train_tokenizer import train_tokenizer
from r1mega.model import PolicySettings, build_policy
from r1mega.parallel import start, stop
from r1mega.reward.judge import Judge
from r1mega.stage.suite import results_digest
from r1mega.stage.suite_sampling import Examinee
from r1mega.training.checkpoint import save_model_folder
from tests.model.test_router import TINY

ROOT = Path(__file__).parents[2]
TEMPLATE = ChatTemplate(prompt="{{ question }}\n<think>", think_in_prompt=True)
TRAINS = """
extends = {tiny}
stage = "rl"
unset = ["pretrain"]
[data]
heldout_problems = 6
[[data.sources]]
kind = "bilingual"
languages = ["en", "de"]
size = 20
[reward]
language = 0.0
target_language = "problem"
[train]
steps = 100
[log]
tensorboard = false
"""
EVALUATES = """
extends = "trains.toml"
stage = "evaluate"
name = {name}
runs_dir = {runs}
unset = ["train.steps"]
[start]
model = {model}
[layout]
data_parallel = 1
expert_parallel = 1
[evaluation.suites]
paths = ["sums.toml", {maths}]
samples = 4
max_new_tokens = 8
slots = 8
keep_texts = true
name = "random"
"""
SUITE = """
title = "Sums"
kind = "recipe"
limit = 5
[source]
kind = "recipe"
path = "trains.toml"
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model with random weights that writes English and German words, a recipe, and a suite of what it holds out."""
    folder = tmp_path_factory.mktemp("suite")
    problems = bilingual_problems(BilingualSource(languages=["en", "de"], size=20), "x")
    tokenizer = train_tokenizer(["the sum of all is nine und das ist die Summe", *(one.question for one in problems)],
                                200, TEMPLATE)
    tokenizer.save(folder / "tokenizer")
    save_template(TEMPLATE, folder / "tokenizer")
    groups = start(LayoutConfig(), seed=0)
    model = ModelConfig(**{**TINY, "vocab_size": tokenizer.vocab_size, "max_context": 512})
    save_model_folder(folder / "m", build_policy(model, groups, PolicySettings(), seed=5), model, groups,
                      folder / "tokenizer")
    stop()
    (folder / "trains.toml").write_text(TRAINS.format(tiny=json.dumps(str(ROOT / "configs/tiny/base.toml"))))
    (folder / "sums.toml").write_text(SUITE)
    return folder


def write_recipe(folder: Path, name: str) -> Path:
    path = folder / f"{name}.toml"
    path.write_text(EVALUATES.format(
        name=json.dumps(name), runs=json.dumps(str(folder / "runs")), model=json.dumps(str(folder / "m")),
        maths=json.dumps(str(ROOT / "configs/suites/own-maths.toml"))))
    return path


@pytest.fixture(scope="module")
def whole(folder: Path) -> Path:
    """A run that nothing stopped."""
    assert main(["run", str(write_recipe(folder, "whole"))]) == 0
    return folder / "runs/whole"


def results(run: Path) -> dict[str, Any]:
    return json.loads((run / "evaluation/sums.json").read_text())


def test_a_run_of_stage_evaluate_leaves_results_and_no_model(whole: Path):
    assert sorted(path.name for path in whole.iterdir()) == ["evaluation", "recipe.toml"]
    assert sorted(path.name for path in (whole / "evaluation").iterdir()) == ["own-maths.json", "sums.json"]


def test_what_is_asked_is_what_the_recipe_holds_out(folder: Path, whole: Path):
    recipe = load_recipe(folder / "trains.toml")
    heldout = split(bilingual_problems(recipe.data.sources[0], "data.sources[0]"), 6).heldout
    assert [problem["id"] for problem in results(whole)["problems"]] == [one.id for one in heldout[:5]]


def test_every_sample_has_the_marks_of_the_recipes_judge_and_the_metrics_are_their_means(folder: Path, whole: Path):
    recipe, found = load_recipe(folder / "trains.toml"), results(whole)
    by_id = {one.id: one for one in bilingual_problems(recipe.data.sources[0], "x")}
    pairs = [(by_id[problem["id"]], sample) for problem in found["problems"] for sample in problem["samples"]]
    with Judge(recipe.reward, TEMPLATE) as judge:
        scores = judge.score([(problem, sample["text"]) for problem, sample in pairs])
    languages = [sample["measured"]["language"] for _, sample in pairs]
    assert languages == [round(score.parts["language"], 6) for score in scores]
    assert [sample["right"] for _, sample in pairs] == [score.parts["accuracy"] == 1 for score in scores]
    assert 0 < sum(languages) < len(languages), "a test of nothing"
    metrics = found["metrics"]
    assert metrics["language"]["value"] == pytest.approx(sum(languages) / 20, abs=1e-5)
    assert metrics["language"]["low"] < metrics["language"]["value"] < metrics["language"]["high"]
    assert set(metrics) == {"pass@1", "pass@2", "pass@4", "cons@4", "format", "language"}


class Stopped(Exception):
    """What a kill is in this test."""


def test_after_a_kill_the_same_command_leaves_the_same_results(
    folder: Path, whole: Path, monkeypatch: pytest.MonkeyPatch
):
    path, asked, answer = write_recipe(folder, "killed"), [], Examinee.answer

    def stopping(self: Examinee, problems: Sequence[Any], *rest: Any) -> list[dict[str, Any]]:
        asked.extend(problems)
        if len(asked) > 8:  # in the first suite's second wave
            raise Stopped
        return answer(self, problems, *rest)

    with monkeypatch.context() as first:
        first.setattr(Examinee, "answer", stopping)
        first.setattr("r1mega.stage.suite_sampling.WAVE", 1)
        with pytest.raises(Stopped):
            main(["run", str(path)])
    run = folder / "runs/killed"
    assert not (run / "evaluation/own-maths.json").exists()
    assert main(["run", str(path)]) == 0
    (run / "evaluation/sums.partial.jsonl").write_text("left by a kill between two files")
    assert main(["run", str(path)]) == 0
    assert sorted(file.name for file in (run / "evaluation").iterdir()) == ["own-maths.json", "sums.json"]
    for name in ("sums.json", "own-maths.json"):
        mine, theirs = (json.loads((one / "evaluation" / name).read_text()) for one in (run, whole))
        assert mine | {"run": 0} == theirs | {"run": 0} and mine["run"] != theirs["run"]
        assert results_digest(run / "evaluation" / name) == results_digest(whole / "evaluation" / name)
        (folder / "changed.json").write_text(json.dumps(mine | {"counts": {}}))
        assert results_digest(folder / "changed.json") != results_digest(whole / "evaluation" / name)


@pytest.mark.parametrize(("words", "said"), [
    (["evaluation.suites.paths=[]"], "evaluation.suites.paths"),
    (["evaluation.suites.paths.0=no.toml"], "evaluation.suites.paths.0"), (["start.model=none"], "start.model"),
])
def test_what_cannot_be_is_refused(folder: Path, capsys: pytest.CaptureFixture, words: list[str], said: str):
    assert main(["run", str(write_recipe(folder, "wrong")), *words]) == 2
    assert said in capsys.readouterr().err


def test_nothing_starts_from_an_evaluation(folder: Path, capsys: pytest.CaptureFixture):
    path = folder / "after.toml"
    path.write_text('extends = "trains.toml"\n[start]\nrecipe = "wrong.toml"\n')
    write_recipe(folder, "wrong")
    assert main(["run", str(path), "--dry-run"]) == 2
    assert "leaves no model" in capsys.readouterr().err

"""`r1mega evaluate` on a tiny model: the same on one rank and two, and after being stopped anywhere."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from r1mega.cli.main import main
from r1mega.config import LayoutConfig, ModelConfig
from r1mega.config.data import ChatTemplate
from r1mega.data.chat_template import save_template
from r1mega.data.train_tokenizer import train_tokenizer
from r1mega.model import PolicySettings, build_policy
from r1mega.parallel import start, stop
from r1mega.stage.suite_sampling import Examinee
from r1mega.training.checkpoint import save_model_folder
from tests.model.test_router import TINY
from tests.reward.code.programs import refusal

SUITES = Path(__file__).parents[2] / "configs/suites"
CHOICE = str(SUITES / "own-choice.toml")


@pytest.fixture(scope="module")
def model_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Random weights, and a vocabulary in which a single token is a letter often enough."""
    folder = tmp_path_factory.mktemp("model")
    template = ChatTemplate(prompt="{{ question }}\n")
    tokenizer = train_tokenizer(["ABCD one and two"], 128, template)
    tokenizer.save(folder / "tokenizer")
    save_template(template, folder / "tokenizer")
    groups = start(LayoutConfig(), seed=0)
    model = ModelConfig(**{**TINY, "vocab_size": tokenizer.vocab_size, "max_context": 1024})
    save_model_folder(folder / "m", build_policy(model, groups, PolicySettings(), seed=5), model, groups,
                      folder / "tokenizer")
    stop()
    return folder / "m"


def evaluate(model_dir: Path, output: Path, *words: str, suite: str = CHOICE) -> dict[str, Any]:
    """The results without what differs between two starts."""
    command = ["evaluate", str(model_dir), "--suite", suite, "--output", str(output), "--samples", "32",
               "--max-new-tokens", "1", "--slots", "16", *words]
    assert main(command) == 0
    found = json.loads((output / f"{Path(suite).stem}.json").read_text())
    assert found.pop("run")["environment"]["packages"]["torch"]
    return found


@pytest.fixture(scope="module")
def alone(model_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    return evaluate(model_dir, tmp_path_factory.mktemp("alone") / "new")


def test_every_sample_has_its_verdict_and_the_metrics_are_theirs(alone: dict[str, Any]):
    problems = alone["problems"]
    assert len(problems) == 10 and all(len(problem["samples"]) == 32 for problem in problems)
    for problem in problems:
        for sample in problem["samples"]:
            assert sample["right"] == (sample["answer"] == problem["expected"]) and sample["tokens"] == 1
        assert problem["right"] == sum(sample["right"] for sample in problem["samples"])
    rate = sum(problem["right"] for problem in problems) / 320
    assert 0 < rate < 1, "a test of nothing"
    metrics = alone["metrics"]
    assert metrics["pass@1"]["value"] == pytest.approx(rate, abs=1e-6)
    assert metrics["pass@32"]["value"] == sum(problem["right"] > 0 for problem in problems) / 10
    assert metrics["pass@1"]["low"] < rate < metrics["pass@1"]["high"]
    votes = [problem["majority"]["right"] for problem in problems if "majority" in problem]
    assert metrics["cons@32"]["value"] == sum(votes) / 10
    assert alone["counts"]["answered"] == sum(
        sample["answer"] is not None for problem in problems for sample in problem["samples"]) / 320


@pytest.mark.parametrize("word", ["layout.data_parallel=2", "layout.tensor_parallel=2"])
def test_two_ranks_give_the_same_results(model_dir: Path, alone: dict[str, Any], tmp_path: Path, word: str):
    assert evaluate(model_dir, tmp_path, word) == alone


class Stopped(Exception):
    """What a kill is in this test."""


def counting(monkeypatch: pytest.MonkeyPatch, stop_after: int | None = None) -> list[str]:
    """Keys of the problems that are sampled from now on; the wave after `stop_after` problems never comes back."""
    asked: list[str] = []
    answer = Examinee.answer

    def counted(self: Examinee, problems: Sequence[Any], *rest: Any) -> list[dict[str, Any]]:
        if stop_after is not None and len(asked) >= stop_after:
            raise Stopped
        asked.extend(one.key for one in problems)
        return answer(self, problems, *rest)

    monkeypatch.setattr(Examinee, "answer", counted)
    return asked


@pytest.mark.parametrize("torn_bytes", [0, 1, 700])
def test_finished_problems_are_not_sampled_again_and_the_results_are_the_same(
    model_dir: Path, alone: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, torn_bytes: int
):
    with monkeypatch.context() as first:
        before = counting(first, stop_after=4)
        with pytest.raises(Stopped):
            evaluate(model_dir, tmp_path)
    partial = tmp_path / "own-choice.partial.jsonl"
    assert len(before) == 4 and not (tmp_path / "own-choice.json").exists()
    content = partial.read_bytes()
    assert len(content.splitlines()) == 5
    partial.write_bytes(content[:len(content) - torn_bytes])
    after = counting(monkeypatch)
    assert evaluate(model_dir, tmp_path) == alone
    kept = before[:4 if torn_bytes == 0 else 3]
    assert kept + after == [problem["id"] for problem in alone["problems"]]
    assert [path.name for path in tmp_path.iterdir()] == ["own-choice.json"]


def test_finished_results_are_left_alone_and_never_mixed_with_others(
    model_dir: Path, alone: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture,
):
    evaluate(model_dir, tmp_path)
    written = (tmp_path / "own-choice.json").read_bytes()
    asked = counting(monkeypatch)
    assert evaluate(model_dir, tmp_path) == alone and asked == []
    command = ["evaluate", str(model_dir), "--suite", CHOICE, "--output", str(tmp_path), "--samples", "2"]
    capsys.readouterr()
    assert main(command) == 2
    said = capsys.readouterr().err
    assert "has results with another samples (32, now 2)" in said and "--output" in said
    assert (tmp_path / "own-choice.json").read_bytes() == written


def test_an_unfinished_evaluation_is_not_gone_on_with_under_other_settings(
    model_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
):
    with monkeypatch.context() as first:
        counting(first, stop_after=2)
        with pytest.raises(Stopped):
            evaluate(model_dir, tmp_path)
    assert main(["evaluate", str(model_dir), "--suite", CHOICE, "--output", str(tmp_path), "--samples", "32",
                 "--max-new-tokens", "1", "--temperature", "1.0"]) == 2
    assert "was begun with another temperature (0.6, now 1.0)" in capsys.readouterr().err


def test_every_kind_is_evaluated_and_texts_are_kept_when_asked(model_dir: Path, tmp_path: Path):
    for name, metric in (("maths", "cons@2"), ("reading", "f1"), ("instructions", "instructions kept"),
                         ("code", "pass@2")):
        if name == "code" and refusal():
            continue
        found = evaluate(model_dir, tmp_path, "--samples", "2", "--max-new-tokens", "4", "--keep-texts",
                         suite=str(SUITES / f"own-{name}.toml"))
        assert metric in found["metrics"] and ("cons@2" in found["metrics"]) == (name in ("maths", "reading"))
        assert all(isinstance(sample["text"], str) for problem in found["problems"] for sample in problem["samples"])


@pytest.mark.parametrize(("words", "said"), [
    ([], "no suites"), (["--suite", "nowhere.toml"], "nowhere.toml"), (["--suite", CHOICE, CHOICE], "same name"),
    (["--suite", CHOICE, "--samples", "0"], "--samples=0"), (["--suite", CHOICE, "--top-p", "1.5"], "--top-p=1.5"),
    (["--suite", CHOICE, "layout.tensor=2"], "not a layout setting"),
    (["--suite", CHOICE, "--temperature", "nan"], "nan"),
])
def test_what_cannot_be_is_refused_before_the_model_is_loaded(
    model_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture, words: list[str],
    said: str,
):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("r1mega.stage.suite.launch", lambda *_: pytest.fail("started"))
    assert main(["evaluate", str(model_dir), *words]) == 2
    error = capsys.readouterr().err
    assert said in error and len(error.splitlines()) == 1

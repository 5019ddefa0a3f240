"""`r1mega sample` from the command line: what it says, and which options it refuses."""

from pathlib import Path

import pytest

from r1mega.cli.main import main
from r1mega.config import LayoutConfig, ModelConfig
from r1mega.config.data import ChatTemplate
from r1mega.data import render_prompt
from r1mega.data.train_tokenizer import train_tokenizer
from r1mega.model import PolicySettings, build_policy
from r1mega.parallel import start, stop
from r1mega.training.checkpoint import save_model_folder
from tests.model.test_router import TINY


@pytest.fixture(scope="module")
def model_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("model") / "m"
    texts = [render_prompt(ChatTemplate(), "one and two"), "so it is three"]
    tokenizer = train_tokenizer(texts, 128, ChatTemplate())
    groups = start(LayoutConfig(), seed=0)
    model = ModelConfig(**{**TINY, "vocab_size": tokenizer.vocab_size, "max_context": 1024})
    save_model_folder(folder, build_policy(model, groups, PolicySettings(), seed=5), model, groups)
    stop()
    tokenizer.save(folder / "tokenizer")
    return folder


def test_questions_are_answered_the_same_every_time(model_dir: Path, capsys: pytest.CaptureFixture):
    words = ["sample", str(model_dir), "--question", "one and two", "--samples", "2", "--max-new-tokens", "5"]
    assert main(words) == 0
    said = capsys.readouterr().out
    assert said.count("> one and two\n") == 2
    assert main(words) == 0 and capsys.readouterr().out == said
    assert main([*words, "--seed", "1"]) == 0 and capsys.readouterr().out != said


@pytest.mark.parametrize(("words", "said"), [
    (["--temperature=-1"], "--temperature=-1: must be 0"), (["--temperature", "nan"], "--temperature=nan: must be 0"),
    (["--temperature", "inf"], "--temperature=inf: must be 0"), (["--top-p", "0"], "--top-p=0: must be above 0"),
    (["--top-p", "1.5"], "--top-p=1.5: must be above 0"), (["--max-new-tokens", "0"], "--max-new-tokens=0: must be 1"),
    (["--samples", "0"], "--samples=0: must be 1"),
])
def test_an_option_that_cannot_be_is_refused_before_the_model_is_loaded(
    model_dir: Path, capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch, words: list[str], said: str
):
    monkeypatch.setattr("r1mega.stage.sample.launch", lambda *_: pytest.fail("started"))
    assert main(["sample", str(model_dir), "--question", "one", *words]) == 2
    error = capsys.readouterr().err
    assert said in error and len(error.splitlines()) == 1


def test_an_empty_prompt_is_refused_and_the_next_question_is_answered(model_dir: Path, capsys: pytest.CaptureFixture):
    assert main(["sample", str(model_dir), "--raw", "--question", ""]) == 2
    assert "--question is empty" in capsys.readouterr().err
    assert main(["sample", str(model_dir), "--raw", "--question", "one", "--max-new-tokens", "2"]) == 0

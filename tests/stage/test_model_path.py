"""From what a user calls a model to its folder and its chat template."""

from pathlib import Path

import pytest

from r1mega.config import UserError
from r1mega.config.data import ChatTemplate
from r1mega.data.chat_template import FILE, save_template
from r1mega.stage.model_path import template_of
from r1mega.stage.tokenizer_files import tokenizer_files


@pytest.fixture
def model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "m" / "tokenizer").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    return Path("m")


def test_a_model_folder_knows_its_template_wherever_it_lies(model: Path, capsys: pytest.CaptureFixture):
    template = ChatTemplate(prompt="Q: {{ question }}\n", think_open="<Denk>")
    save_template(template, model / "tokenizer")
    assert template_of(model) == template
    assert capsys.readouterr().err == ""
    assert f"tokenizer/{FILE}" in tokenizer_files(model / "tokenizer")  # it comes along when a model is imported


def test_the_default_template_is_not_taken_in_silence(model: Path, capsys: pytest.CaptureFixture):
    assert template_of(model) == ChatTemplate()
    said = capsys.readouterr().err
    assert "no chat template of its own" in said and said.count("\n") == 1


def test_a_damaged_template_is_named(model: Path):
    (model / "tokenizer" / FILE).write_text('{"prompt": 3}')
    with pytest.raises(UserError, match=rf"{FILE}: prompt: .*copy it again"):
        template_of(model)

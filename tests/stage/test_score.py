"""`r1mega score` from the command line: the same log-probs under any layout, and every bad line named."""

import json
from pathlib import Path

import pytest
import torch

from r1mega.cli.main import main
from r1mega.config import LayoutConfig, ModelConfig
from r1mega.model import PolicySettings, build_policy
from r1mega.parallel import start, stop
from r1mega.training.checkpoint import save_model_folder
from tests.model.test_router import TINY

MODEL = ModelConfig(**{**TINY, "num_layers": 3, "init_std": 0.3})


@pytest.fixture(scope="module")
def model_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("model") / "m"
    groups = start(LayoutConfig(), seed=0)
    save_model_folder(folder, build_policy(MODEL, groups, PolicySettings(), seed=5), MODEL, groups)
    stop()
    return folder


@pytest.fixture(scope="module")
def tokens(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("input") / "tokens.jsonl"
    generator = torch.Generator().manual_seed(0)
    rows = [torch.randint(0, 64, (length,), generator=generator).tolist() for length in (7, 1, 20, 64, 3, 12)]
    path.write_text("".join(json.dumps({"token_ids": row}) + "\n" for row in rows))
    return path


def scored(model_dir: Path, tokens: Path, output: Path, *words: str) -> list[list[float | None]]:
    assert main(["score", str(model_dir), "--input", str(tokens), "--output", str(output), *words]) == 0
    return [json.loads(line)["log_probs"] for line in output.read_text().splitlines()]


def test_every_layout_gives_one_ranks_log_probs(model_dir: Path, tokens: Path, tmp_path: Path):
    alone = scored(model_dir, tokens, tmp_path / "1")
    assert [len(row) for row in alone] == [7, 1, 20, 64, 3, 12] and alone[1] == [None]
    assert all(row[0] is None and all(value < 0 for value in row[1:]) for row in alone)
    for words in (["layout.tensor_parallel=2"], ["layout.expert_parallel=2", "layout.data_parallel=2"],
                  ["layout.pipeline_parallel=2"]):
        for ours, theirs in zip(alone, scored(model_dir, tokens, tmp_path / "2", *words), strict=True):
            assert ours[1:] == pytest.approx(theirs[1:], abs=1e-4), words


def test_kernels_that_cannot_run_here_are_refused_in_one_line(
    model_dir: Path, tokens: Path, tmp_path: Path, capfd: pytest.CaptureFixture
):
    words = ["--input", str(tokens), "--output", str(tmp_path / "o"), "--implementation", "triton"]
    assert main(["score", str(model_dir), *words]) != 0
    said = capfd.readouterr().err
    assert "head.implementation='triton' needs a GPU" in said and "Traceback" not in said
    assert not (tmp_path / "o").exists()


@pytest.mark.parametrize(("line", "said"), [
    ("{", "not an object with token_ids"), ('{"tokens": [1]}', "not an object with token_ids"),
    ('{"token_ids": []}', "one or more integers"), ('{"token_ids": [1, 2.5]}', "one or more integers"),
    ('{"token_ids": [1, 64]}', "token id 64 is not in the vocabulary"),
    (json.dumps({"token_ids": [1] * 65}), "65 tokens, but model.max_context=64"),
])
def test_a_bad_line_is_named_before_anything_is_computed(
    model_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture, line: str, said: str
):
    bad = tmp_path / "bad.jsonl"
    bad.write_text('{"token_ids": [1, 2]}\n' + line + "\n")
    assert main(["score", str(model_dir), "--input", str(bad), "--output", str(tmp_path / "out")]) == 2
    error = capsys.readouterr().err
    assert f"{bad}:2" in error and said in error and len(error.splitlines()) <= 2
    assert not (tmp_path / "out").exists()


def test_an_impossible_layout_is_refused(model_dir: Path, tokens: Path, tmp_path: Path, capsys: pytest.CaptureFixture):
    for word, said in (("layout.tensor_parallel=3", "tensor_parallel"), ("layout.tensor=2", "not a layout setting"),
                       ("layout.tensor_parallel=two", "not a whole number")):
        assert main(["score", str(model_dir), "--input", str(tokens), "--output", str(tmp_path / "o"), word]) == 2
        assert said in capsys.readouterr().err


@pytest.mark.parametrize(("words", "said"), [
    (["--temperature", "0"], "--temperature=0: must be"), (["--temperature", "nan"], "--temperature=nan: must be"),
    (["--temperature=-1"], "--temperature=-1: must be"), (["--output", "{tmp}/nodir/o.jsonl"], "there is no folder"),
    (["--output", "{tmp}"], "is a folder"),
])
def test_an_option_that_cannot_be_is_refused_before_the_model_is_loaded(
    tokens: Path, tmp_path: Path, capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch, words, said: str,
    model_dir: Path,
):
    monkeypatch.setattr("r1mega.stage.score.launch", lambda *_: pytest.fail("started"))
    words = [word.format(tmp=tmp_path) for word in words]
    assert main(["score", str(model_dir), "--input", str(tokens), "--output", str(tmp_path / "o"), *words]) == 2
    assert said in capsys.readouterr().err


def test_a_run_that_fails_leaves_neither_output_nor_half_of_it_and_the_next_one_works(
    model_dir: Path, tokens: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    with monkeypatch.context() as broken:
        broken.setattr("r1mega.stage.score._score", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            main(["score", str(model_dir), "--input", str(tokens), "--output", str(tmp_path / "o")])
    assert list(tmp_path.iterdir()) == []
    assert len(scored(model_dir, tokens, tmp_path / "o")) == 6
    assert [path.name for path in tmp_path.iterdir()] == ["o"]

"""The command itself: instant, and mistakes in one line."""

import json
import shlex
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from r1mega.cli.main import COMMANDS, main

ROOT = Path(__file__).parents[2]
ZERO = str(ROOT / "configs/tiny/zero.toml")
HEAVY = ("torch", "megatron", "transformers", "numpy")


def imported_by(*words: str) -> set[str]:
    """Modules that a fresh process has imported after the command."""
    program = ("import sys, io, json\nout, sys.stdout = sys.stdout, io.StringIO()\nfrom r1mega.cli.main import main\n"
               f"try:\n    main({list(words)!r})\nexcept SystemExit:\n    pass\n"
               "print(json.dumps(sorted(sys.modules)), file=out)")
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, cwd=ROOT)
    return set(json.loads(done.stdout))


def test_help_imports_neither_torch_nor_pydantic() -> None:
    assert not {"pydantic", "jinja2", *HEAVY} & imported_by("--help")


LIGHT = [*([name, "--help"] for name in COMMANDS), ["show", ZERO]]


@pytest.mark.parametrize("command", LIGHT,
                         ids=lambda words: "-".join([words[0], words[-1].lstrip("-").rpartition("/")[2]]))
def test_help_and_show_import_no_torch(command: list[str]) -> None:
    assert not set(HEAVY) & imported_by(*command)


@pytest.mark.parametrize(("words", "said"), [
    (["shwo"], "did you mean 'show'?"),
    (["configs/tiny/zero.toml"], "r1mega run configs/tiny/zero.toml"),
    (["run"], "RECIPE"),
    (["run", ZERO, "--dryrun"], "--dryrun"),
    (["show"], "no recipe"),
    (["report"], "RUN"),
    (["report", "nowhere"], "nowhere"),
    (["import", "nowhere", "made", "--ranks", "0"], "--ranks"),
    (["import", "nowhere", "made", "--precision", "fp8"], "fp8"),
])
def test_mistakes_are_said_in_one_line(words: list[str], said: str, tmp_path: Path, monkeypatch,
                                       capsys: pytest.CaptureFixture) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(words) == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1 and lines[0].startswith("r1mega: ") and said in lines[0]


def test_show_prints_a_recipe_with_origins(capsys: pytest.CaptureFixture, monkeypatch) -> None:
    monkeypatch.chdir(ROOT)
    assert main(["show", ZERO, "optimizer.lr=0.25"]) == 0
    text = capsys.readouterr().out
    assert "lr = 0.25  # command line" in text
    assert "hidden_size = 128  # configs/models/tiny.toml:3" in text
    assert tomllib.loads(text)["optimizer"]["lr"] == 0.25


def test_show_as_json_has_value_and_origin_of_each_key(capsys: pytest.CaptureFixture, monkeypatch) -> None:
    monkeypatch.chdir(ROOT)
    assert main(["show", ZERO, "--json", "optimizer.lr=0.25"]) == 0
    tree = json.loads(capsys.readouterr().out)
    assert tree["optimizer"]["lr"] == {"value": 0.25, "origin": "command line"}
    assert tree["data"]["sources"][0]["kind"]["origin"].startswith("configs/tiny/")
    assert tree["algorithm"]["clip_low"] == {"value": 0.2, "origin": "default"}


def test_show_into_a_closed_pipe_says_nothing() -> None:
    command = f"{shlex.quote(sys.executable)} -m r1mega.cli.main show {shlex.quote(ZERO)} | head -1"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, cwd=ROOT)
    assert done.stderr == ""
    assert done.stdout.startswith("name =")

"""Every malformed recipe: exit code 2, one or two lines that name file, key and fix, and nothing started."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from r1mega.cli.main import main
from tests.config.malformed import CASES, VALID, Case

TINY = Path(__file__).parents[2] / "configs/models/tiny.toml"


def write(case: Case, folder: Path) -> Path:
    (folder / "tiny.toml").write_text(TINY.read_text())
    for name, text in case.files.items():
        (folder / name).write_text(text)
    recipe = folder / "recipe.toml"
    recipe.write_text(case.recipe)
    return recipe


def assert_says(error: str, case: Case) -> None:
    lines = error.strip().splitlines()
    assert 1 <= len(lines) <= 2 and all(line.startswith("r1mega: ") for line in lines), error
    said = next((line for line in lines if case.key in line and case.fix in line), None)
    assert said is not None and case.at in said, error
    assert "Traceback" not in error


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name.replace(" ", "-"))
def test_says_file_key_and_fix(case: Case, tmp_path: Path, capsys: pytest.CaptureFixture, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    code = main(["run", "--dry-run", str(write(case, tmp_path)), *case.overrides])
    shown = capsys.readouterr()
    assert code == 2
    assert shown.out == ""
    assert_says(shown.err, case)


def test_the_recipe_without_the_mistake_is_accepted(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    assert main(["run", "--dry-run", str(write(Case("", "", ""), tmp_path))]) == 0
    assert "nothing was started" in capsys.readouterr().out
    assert len({case.name for case in CASES}) == len(CASES)


@pytest.mark.parametrize("case", CASES[:60:20], ids=lambda case: case.name.replace(" ", "-"))
def test_as_a_process_it_says_so_before_torch_could_be_imported(case: Case, tmp_path: Path) -> None:
    recipe = write(case, tmp_path)
    program = (f"import sys, runpy; sys.argv = ['r1mega', 'run', {str(recipe)!r}, *{list(case.overrides)!r}]\n"
               "from r1mega.cli.main import main\ncode = main()\n"
               "assert 'torch' not in sys.modules\nsys.exit(code)")
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, cwd=tmp_path,
                          env=os.environ | {"PYTHONPATH": ""})
    assert done.returncode == 2, done.stderr
    assert_says(done.stderr, case)


def test_line_numbers_are_those_of_the_file(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    text = VALID.replace("group_size = 2", "group_size = 1")
    number = text.splitlines().index("group_size = 1") + 1
    main(["run", "--dry-run", str(write(Case("", "", "", new=text), tmp_path))])
    assert f"recipe.toml:{number}: rollout.group_size=1" in capsys.readouterr().err


def test_of_many_mistakes_two_are_said_and_the_rest_counted(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    text = VALID.replace("group_size = 2", "group_size = 1").replace("steps = 10", "steps = 0").replace("lr = 1e-3",
                                                                                                      "lr = -1.0")
    main(["run", "--dry-run", str(write(Case("", "", "", new=text), tmp_path))])
    lines = capsys.readouterr().err.strip().splitlines()
    assert len(lines) == 2 and lines[1].endswith("(and 1 more)")


@pytest.mark.parametrize(("content", "words"), [
    (b"stage = \"rl\xff\"", "UTF-8"),
    (b"{\"stage\": \"rl\"}", "is not TOML"),
    (b"", "add it"),
])
def test_files_that_are_no_recipe(content: bytes, words: str, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    recipe = tmp_path / "recipe.toml"
    recipe.write_bytes(content)
    assert main(["run", str(recipe)]) == 2
    error = capsys.readouterr().err
    assert words in error and "recipe.toml" in error and len(error.splitlines()) <= 2


def test_a_missing_recipe_suggests_its_neighbour(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    (tmp_path / "zero.toml").touch()
    assert main(["run", str(tmp_path / "zreo.toml")]) == 2
    assert "did you mean" in capsys.readouterr().err
    assert main(["run", str(tmp_path)]) == 2
    assert "is a folder" in capsys.readouterr().err

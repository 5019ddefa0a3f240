"""Stage sft with a teacher: a dense student of a mixture of experts, and the teachers that are refused."""

import json
import shutil
from pathlib import Path

import pytest

from r1mega.cli.main import main
from r1mega.training.checkpoint.files import hash_file
from tests.stage.supervised import ROOT, write_recipe

STUDENT = """
extends = "sft.toml"
name = "student"
[layout]
expert_parallel = 1
[model]
extends = {model}
[sft.teacher]
model = {teacher}
coef = 0.7
temperature = 2.0
[optimizer]
lr = 1e-2
[train]
mtp = "off"
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """With the run of a teacher, whose last checkpoint is runs/teacher."""
    folder = tmp_path_factory.mktemp("taught")
    assert main(["run", str(write_recipe(folder))]) == 0
    last = sorted((folder / "runs/sft/checkpoints").iterdir())[-1]
    shutil.copytree(last, folder / "runs/teacher")
    return folder


def student(folder: Path, name: str, teacher: Path, *overrides: str) -> int:
    path = folder / "student.toml"
    path.write_text(STUDENT.format(model=json.dumps(str(ROOT / "configs/models/tiny_llama.toml")),
                                   teacher=json.dumps(str(teacher))))
    return main(["run", str(path), f"name={name}", *overrides])


def hashes(folder: Path) -> dict[Path, object]:
    return {path: hash_file(path) for path in folder.rglob("*") if path.is_file()}


def test_a_student_comes_closer_to_a_teacher_that_stays_as_it_is(folder: Path):
    before = hashes(folder / "runs/teacher")
    assert student(folder, "student", folder / "runs/teacher") == 0
    lines = [json.loads(line) for line in (folder / "runs/student/metrics.jsonl").read_text().splitlines()]
    steps = [line for line in lines if line["step"] > 0]
    assert steps[-1]["teacher_kl"] < 0.7 * steps[0]["teacher_kl"]
    nll = sum(steps[0][f"loss_{name}"] * steps[0][f"tokens_{name}"] for name in ("reasoning", "other")
              if f"loss_{name}" in steps[0]) / steps[0]["tokens"]
    assert steps[0]["loss"] == pytest.approx(0.3 * nll + 0.7 * 4 * steps[0]["teacher_kl"], rel=1e-5)
    assert hashes(folder / "runs/teacher") == before


@pytest.mark.parametrize(("what", "message"), [
    ("another tokenizer", "its tokenizer is not the student's"), ("no tokenizer", "has no tokenizer/"),
    ("a short context", "set sft.max_tokens=64"), ("no teacher", "the folder is not there")])
def test_a_teacher_that_cannot_teach_is_refused(folder: Path, capsys, what: str, message: str):
    teacher = folder / what.replace(" ", "-")
    if what != "no teacher":
        shutil.copytree(folder / "runs/teacher", teacher)
    if what == "another tokenizer":
        file = teacher / "tokenizer/tokenizer.json"
        words = json.loads(file.read_text())
        vocabulary = words["model"]["vocab"]
        first, second, *_ = (word for word in vocabulary if len(word) > 1)
        vocabulary[first], vocabulary[second] = vocabulary[second], vocabulary[first]
        file.write_text(json.dumps(words))
    elif what == "no tokenizer":
        shutil.rmtree(teacher / "tokenizer")
    elif what == "a short context":
        model = json.loads((teacher / "model.json").read_text())
        (teacher / "model.json").write_text(json.dumps(model | {"max_context": 64}))
    assert student(folder, f"refused-{teacher.name}", teacher) == 2
    assert message in capsys.readouterr().err

"""What runs before a recipe, what is checked before anything runs, and when a run is not gone on with."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from r1mega.cli.main import main
from r1mega.config import UserError, load_recipe
from r1mega.stage.run import run_recipe
from tests.e2e.recipes import ROOT, write_base_recipe, write_rl_recipe


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    write_base_recipe(tmp_path)
    return write_rl_recipe(tmp_path, "run", start='recipe = "base.toml"')


def go(recipe: Path, *overrides: str) -> Path:
    return run_recipe(load_recipe(recipe, overrides), recipe)


def refused(recipe: Path, *overrides: str) -> str:
    with pytest.raises(UserError) as caught:
        go(recipe, *overrides)
    assert str(caught.value).count("\n") <= 1
    return str(caught.value)


def test_the_base_runs_first_and_a_finished_one_is_taken_as_it_is(recipe: Path, launched: list):
    go(recipe)
    assert [run["name"] for run in launched] == ["base", "run"]
    assert launched[1]["start_model"] == str(recipe.parent / "runs/base/checkpoints/step-00000002")
    go(recipe, "name=other")
    assert [run["name"] for run in launched[2:]] == ["other"]


@pytest.mark.parametrize(("override", "said"), [
    ("data.sources.0.task=nope", "'nope'"), ("data.max_prompt_tokens=5", "data.max_prompt_tokens=5"),
    ("data.heldout_problems=12", "held-out problems are among those"),
    ("data.sources.0.seed=9", "held-out problems are among those"),
    ("data.heldout_problems=40", "rollout.problems_per_step=4 is more than"),
])
def test_wrong_data_is_said_before_the_base_trains_and_by_a_dry_run(
    recipe: Path, launched: list, override: str, said: str, capsys: pytest.CaptureFixture
):
    if "problems=40" in override:  # 60 problems of two digits, of which fewer differ
        overrides = ["start.recipe=none", override, "data.sources.0.size=46"]
    else:
        overrides = [override]
    assert main(["run", "--dry-run", str(recipe), *overrides]) == 2
    assert said in capsys.readouterr().err
    assert not (recipe.parent / "runs").exists()
    assert said in refused(recipe, *overrides)
    assert launched == []


def test_fewer_held_out_problems_than_the_bases_are_no_leak(recipe: Path, launched: list):
    go(recipe, "data.heldout_problems=5")
    assert len(launched) == 2


def test_a_base_says_by_its_own_key_that_a_step_is_too_large(recipe: Path, launched: list):
    base = recipe.parent / "base.toml"
    base.write_text(base.read_text().replace("documents_per_step = 16", "documents_per_step = 80"))
    assert "pretrain.documents_per_step=80 is more than the" in refused(recipe)
    assert launched == []


def test_under_a_launcher_the_base_has_the_layout_of_the_recipe_that_starts_from_it(
    recipe: Path, launched: list, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("RANK", "0")
    go(recipe, "layout.data_parallel=4", "layout.pipeline_parallel=2", "layout.pipeline_layout='Ett|ttmL'")
    assert launched[0]["layout"] == launched[1]["layout"]
    assert launched[0]["layout"]["pipeline_layout"] == "Ett|ttmL"
    said = refused(recipe, "name=wide", "rollout.problems_per_step=32", "layout.data_parallel=32")
    assert "pretrain.documents_per_step=16" in said and "layout.data_parallel=32" in said


def test_one_rank_of_torchrun_is_enough_for_a_base_whose_own_layout_has_two(recipe: Path):
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "1",
               "-m", "r1mega.cli.main", "run", str(recipe), "layout.data_parallel=1", "layout.expert_parallel=1",
               "train.steps=1"]
    environment = {name: value for name, value in os.environ.items() if name not in ("RANK", "WORLD_SIZE")}
    done = subprocess.run(command, cwd=ROOT, env=environment | {"OMP_NUM_THREADS": "1"}, capture_output=True, text=True,
                          timeout=240)
    assert done.returncode == 0, done.stderr[-3000:]
    assert len((recipe.parent / "runs/run/metrics.jsonl").read_text().splitlines()) == 1


def test_a_base_of_another_recipe_is_refused_and_a_damaged_one_runs_again(recipe: Path, launched: list):
    go(recipe)
    base = recipe.parent / "base.toml"
    text = base.read_text()
    base.write_text(text.replace("warmup_steps = 2", "warmup_steps = 1"))
    assert "runs/base: was started with optimizer.warmup_steps=2, now it is 1" in refused(recipe, "name=other")
    base.write_text(text)
    (recipe.parent / "runs/base/checkpoints/step-00000002/weights/numbers").write_bytes(b"1334")
    go(recipe, "name=other")
    assert [run["name"] for run in launched[2:]] == ["base", "other"]


def test_a_run_with_a_checkpoint_of_its_own_needs_no_base(recipe: Path, launched: list):
    go(recipe)
    shutil.rmtree(recipe.parent / "runs/base")
    go(recipe, "train.steps=7")
    assert [(run["name"], run["start_model"]) for run in launched[2:]] == [("run", None)]


@pytest.mark.parametrize(("overrides", "said"), [
    (["start.recipe=none"], "start.recipe="), (["train.steps=9", "optimizer.schedule=cosine"], "optimizer.schedule="),
    (["reward.timeout_s=9.0"], "reward.timeout_s="), (["reward.memory_mb=64"], "reward.memory_mb="),
])
def test_a_run_with_checkpoints_does_not_go_on_from_elsewhere_or_under_other_rules(
    recipe: Path, launched: list, overrides: list[str], said: str
):
    go(recipe)
    assert said in refused(recipe, *overrides)
    assert len(launched) == 2


def test_more_steps_are_refused_where_the_cosine_would_change_and_welcome_where_lr_is_constant(
    recipe: Path, launched: list
):
    go(recipe, "optimizer.schedule=cosine", "name=cosine")
    said = refused(recipe, "optimizer.schedule=cosine", "name=cosine", "train.steps=9")
    assert "train.steps=5, now it is 9" in said and "cosine" in said
    go(recipe)
    go(recipe, "train.steps=9")
    assert [run["name"] for run in launched[2:]] == ["run", "run"]


@pytest.fixture
def from_file(tmp_path: Path) -> Path:
    """A recipe whose problems are a file's."""
    path = write_rl_recipe(tmp_path, "file")
    text = path.read_text()
    begin, end = text.index("[[data.sources]]"), text.index("[rollout]")
    source = '[[data.sources]]\nkind = "files"\npaths = ["p.jsonl"]\nscorer = "exact"\n\n'
    path.write_text(text[:begin] + source + text[end:])
    write_problems(tmp_path / "p.jsonl", 20)
    return path


def write_problems(path: Path, count: int) -> None:
    path.write_text("".join(json.dumps({"question": f"{n} + 1 =", "answer": n + 1}) + "\n" for n in range(count)))


def test_a_changed_data_file_is_read_again_or_ends_the_run_that_was_started_with_it(from_file: Path, launched: list):
    train = from_file.parent / "runs/file/data/train.jsonl"
    go(from_file)
    assert len(train.read_text().splitlines()) == 12
    shutil.rmtree(from_file.parent / "runs/file/checkpoints")
    write_problems(from_file.parent / "p.jsonl", 25)
    go(from_file)
    assert len(train.read_text().splitlines()) == 17
    write_problems(from_file.parent / "p.jsonl", 30)
    said = refused(from_file)
    assert "started with other contents of" in said and "p.jsonl" in said and "name=" in said


def test_a_tokenizer_made_for_a_larger_vocabulary_is_not_taken_for_a_smaller_one(from_file: Path, launched: list):
    signs = [chr(0x4E00 + n) for n in range(100)]  # five a question, and every one a token
    (from_file.parent / "p.jsonl").write_text("".join(
        json.dumps({"question": "".join(signs[n:n + 5]), "answer": n}) + "\n" for n in range(0, 100, 5)))
    overrides = ["data.heldout_problems=2", "tokenizer.vocab_size=none"]
    go(from_file, *overrides, "model.vocab_size=256")
    shutil.rmtree(from_file.parent / "runs/file/checkpoints")
    assert "use at least" in refused(from_file, *overrides, "model.vocab_size=64")


def test_data_that_cannot_be_made_leaves_no_stamp_of_what_was_there(from_file: Path, launched: list):
    go(from_file)
    shutil.rmtree(from_file.parent / "runs/file/checkpoints")
    folder = from_file.parent / "runs/file/data"
    (folder / "heldout.jsonl").unlink()
    (folder / "heldout.jsonl").mkdir()  # so that writing fails halfway
    write_problems(from_file.parent / "p.jsonl", 25)
    assert "heldout.jsonl" in refused(from_file)
    assert not (folder / "made_from.json").exists()

"""`r1mega run` from the command line, on one rank: what it leaves behind, and what it refuses."""

import json
from pathlib import Path

import pytest
from safetensors import safe_open

from r1mega.cli.main import main
from tests.e2e.recipes import write_rl_recipe

ONE_RANK = ["layout.data_parallel=1", "layout.expert_parallel=1"]


def run(recipe: Path, *overrides: str) -> int:
    return main(["run", str(recipe), *ONE_RANK, *overrides])


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A recipe that has been run to its end."""
    recipe = write_rl_recipe(tmp_path_factory.mktemp("finished"), "run", steps=3)
    assert run(recipe) == 0
    return recipe


def test_a_run_leaves_metrics_samples_checkpoints_recipe_environment_and_report(finished: Path):
    folder = finished.parent / "runs" / "run"
    metrics = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    assert [record["step"] for record in metrics] == [1, 2, 3]
    last = metrics[-1]
    assert last["heldout_problems"] == 8 and 0 <= last["heldout_pass_at_1"] <= 1
    assert last["logprob_gap"] < 1e-4, "the sampler and the trainer disagree"
    assert last["reward"] == pytest.approx(last["reward_accuracy"] + last["reward_format"])
    assert {"recipe.toml", "environment.json", "samples.jsonl", "report.html"} <= {p.name for p in folder.iterdir()}
    assert (folder / "checkpoints" / "step-00000003" / "manifest.json").exists()


def test_the_same_command_after_the_end_does_nothing(finished: Path):
    metrics = finished.parent / "runs" / "run" / "metrics.jsonl"
    before = metrics.read_text()
    assert run(finished) == 0
    assert metrics.read_text() == before


def test_a_run_is_not_gone_on_with_under_another_recipe(finished: Path, capsys: pytest.CaptureFixture):
    assert run(finished, "optimizer.lr=5e-4") == 2
    said = capsys.readouterr().err
    assert "optimizer.lr=0.001" in said and "0.0005" in said and "name=" in said and len(said.splitlines()) <= 2


def test_more_steps_and_another_layout_are_going_on(finished: Path):
    assert main(["run", str(finished), "layout.expert_parallel=1", "layout.data_parallel=2", "train.steps=4"]) == 0
    lines = (finished.parent / "runs" / "run" / "metrics.jsonl").read_text().splitlines()
    assert [json.loads(line)["step"] for line in lines] == [1, 2, 3, 4]


def test_numbers_that_are_not_finite_end_the_run_with_the_batch_saved(tmp_path: Path, capsys: pytest.CaptureFixture):
    recipe = write_rl_recipe(tmp_path, "run", steps=50, every=100)
    assert run(recipe, "optimizer.lr=1e30", "algorithm.kl_coef=0.0", "train.max_bad_steps=2") == 2
    said = capsys.readouterr().err
    assert "2 updates in a row" in said and "not finite" in said and "optimizer.lr" in said
    (folder,) = (tmp_path / "runs" / "run").glob("bad-update-*")
    with safe_open(folder / "rank-0.safetensors", "pt") as saved:
        assert {"0.token_ids", "0.loss_mask", "0.sampler_log_probs", "0.advantage"} <= set(saved.keys())

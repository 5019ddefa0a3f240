"""A pipeline of real runs: interrupted between stages it ends as it would have without, and settings are remembered."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from r1mega.pipeline import Choice, load_stages, run_pipeline, status
from r1mega.pipeline.artifact import LEFT, artifact_of
from tests.e2e.recipes import ROOT, write_base_recipe, write_rl_recipe

PIPELINE = """
name = "small"
runs_dir = "{runs}"
[stages.base]
recipe = "base.toml"
[stages.zero]
recipe = "run.toml"
start = "base"
"""


def write_pipeline(folder: Path) -> Path:
    folder.mkdir()
    write_base_recipe(folder)
    write_rl_recipe(folder, "run", steps=1)
    path = folder / "pipeline.toml"
    path.write_text(PIPELINE.format(runs=folder / "runs"))
    return path


def command(*words: str) -> str:
    done = subprocess.run([sys.executable, "-m", "r1mega.cli.main", *words], cwd=ROOT, capture_output=True, text=True,
                          env=os.environ | {"OMP_NUM_THREADS": "1"}, timeout=300)
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


def contents(path: Path) -> dict[str, str]:
    return {stage.name: artifact_of(stage).content for stage in load_stages(path)}


def states(path: Path, *overrides: str) -> dict[str, str]:
    return {entry.stage.name: entry.state for entry in status(load_stages(path, overrides))}


@pytest.fixture(scope="module")
def interrupted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Stopped after its first stage, then run to its end."""
    path = write_pipeline(tmp_path_factory.mktemp("pipeline") / "interrupted")
    command("run", str(path), "--until", "base")
    assert states(path) == {"base": "done", "zero": "waiting"}
    command("run", str(path))
    return path


def test_a_pipeline_stopped_between_stages_ends_with_the_artifacts_of_one_that_was_not(interrupted: Path):
    whole = write_pipeline(interrupted.parent.parent / "whole")
    said = command("run", str(whole))
    assert said.index("stage base:") < said.index("stage zero:") and "report:" in said
    assert contents(whole) == contents(interrupted) and len(set(contents(whole).values())) == 2


def test_what_is_done_is_not_run_again_and_other_settings_are_stale_with_the_reason(
    interrupted: Path, capsys: pytest.CaptureFixture
):
    said: list[str] = []
    run_pipeline(load_stages(interrupted), Choice(), said.append)
    assert [text.partition(",")[0] for text in said] == ["base: done before", "zero: done before"]
    entries = status(load_stages(interrupted, ["zero.optimizer.lr=5e-3"]))
    assert [entry.state for entry in entries] == ["done", "stale"]
    assert "optimizer.lr (0.001 -> 0.005)" in entries[1].why
    shown = command("status", str(interrupted))
    assert shown.count(" done ") == 2 and "<- base" in shown


def test_a_stage_whose_start_is_missing_is_refused(interrupted: Path):
    with pytest.raises(Exception, match="stage zero reads what base leaves, which is not there"):
        run_pipeline(load_stages(interrupted, ["base.train.steps=3"]), Choice(only="zero"), print)


def test_an_artifact_that_is_damaged_or_half_written_is_none(interrupted: Path):
    stage = load_stages(interrupted)[1]
    record = stage.run_dir / LEFT
    before = record.read_bytes()
    try:
        for spoiled in (b"", b"{", json.dumps(json.loads(before) | {"content": "0"}).encode()):
            record.write_bytes(spoiled)
            assert artifact_of(stage) is None
    finally:
        record.write_bytes(before)
    assert artifact_of(stage) is not None

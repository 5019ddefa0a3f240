"""A pipeline killed in every stage and at every boundary ends as one that was left alone."""

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

from r1mega.pipeline import Stage, load_stages, status
from r1mega.pipeline.artifact import artifact_of
from r1mega.training.metrics import same_metrics
from tests.e2e.recipes import ROOT
from tests.pipeline.every_stage import write_every_stage

LIMIT_S = 900


def run(folder: Path, how: str) -> list[list[str]]:
    """Run the pipeline of `folder`, killed or whole; the words of every line it said."""
    path = write_every_stage(folder)
    command = [sys.executable, "-m", "tests.pipeline.faulty_pipeline", str(path), str(folder / "ledger"), how]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=LIMIT_S,
                          env=os.environ | {"OMP_NUM_THREADS": "1"})
    assert done.returncode == 0, done.stderr[-3000:]
    said = [line.split() for line in done.stdout.splitlines() if line.split()[-1:] and
            line.split()[-1] in ("SIGKILL", "finished", "failed")]
    assert said[-1] == ["all", "finished"], f"{said}\n{done.stderr[-4000:]}"
    return said


@pytest.fixture(scope="module")
def pipelines(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, list[list[str]]]:
    """One left alone, one killed everywhere, and how the starts of the latter ended."""
    whole, killed = (tmp_path_factory.mktemp(name) for name in ("whole", "killed"))
    run(whole, "whole")
    return whole, killed, run(killed, "killed")


def stages_of(folder: Path) -> dict[str, Stage]:
    return {stage.name: stage for stage in load_stages(folder / "pipeline.toml")}


def test_every_stage_was_killed_inside_and_at_its_end(pipelines: tuple):
    """Guards the tests below: a kill that never came would prove nothing."""
    whole, _, said = pipelines
    names = list(stages_of(whole))
    assert {stages_of(whole)[name].recipe.stage for name in names} == {
        "pretrain", "rl", "rejection_sampling", "sft", "preference", "evaluate"}
    assert said[:-1] == [[name, "SIGKILL"] for name in names for _ in range(2)]


def test_the_artifacts_are_those_of_a_pipeline_left_alone(pipelines: tuple):
    whole, killed, _ = pipelines
    contents = [{name: artifact_of(stage).content for name, stage in stages_of(folder).items()}
                for folder in (whole, killed)]
    assert contents[0] == contents[1]
    assert len(set(contents[0].values())) == len(contents[0])
    assert all(entry.state == "done" for entry in status(list(stages_of(killed).values())))


def test_the_metrics_are_those_of_a_pipeline_left_alone(pipelines: tuple):
    whole, killed, _ = pipelines
    for name, stage in stages_of(whole).items():
        if (stage.run_dir / "metrics.jsonl").exists():
            assert same_metrics(stage.run_dir, stages_of(killed)[name].run_dir) == [], name


def ledger_of(folder: Path) -> Mapping[tuple[str, int], list[list[str]]]:
    """(stage, update) -> the samples of every time it was made."""
    found: dict[tuple[str, int], list[list[str]]] = {}
    for line in (folder / "ledger").read_text().splitlines():
        entry = json.loads(line)
        found.setdefault((entry["stage"], entry["update"]), []).append(entry["samples"])
    return found


def test_no_sample_is_used_twice_or_lost_across_a_resume(pipelines: tuple):
    whole, killed, _ = pipelines
    before, after = ledger_of(whole), ledger_of(killed)
    assert before.keys() == after.keys()
    for update, (samples,) in before.items():
        assert all(again == samples for again in after[update]), update
    assert any(len(times) > 1 for times in after.values())  # an update was made, lost by the kill, and made again

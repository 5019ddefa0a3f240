"""A run killed anywhere goes on by the same command, and nobody can tell from its metrics."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from r1mega.training.metrics import same_metrics
from tests.e2e.recipes import ROOT, write_base_recipe, write_rl_recipe

KILLED = -signal.SIGKILL


def run(recipe: Path, point: str = "none", count: int = 1, rank: int = 0) -> subprocess.CompletedProcess:
    """One start of the run on two ranks; the launcher's exit code is 0 only if both ranks ended well."""
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2",
               "-m", "tests.e2e.faulty_run", str(recipe), point, str(count), str(rank)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    environment.pop("RANK", None)
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=240)


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Where to start from for rewards that differ: a model that has read a few right solutions."""
    folder, steps = tmp_path_factory.mktemp("base"), 40
    done = run(write_base_recipe(folder, steps))
    assert done.returncode == 0, done.stderr[-3000:]
    return f"model = {json.dumps(str(folder / 'runs' / 'base' / 'checkpoints' / f'step-{steps:08d}'))}"


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory, base: str) -> Path:
    folder = tmp_path_factory.mktemp("undisturbed")
    done = run(write_rl_recipe(folder, "run", start=base))
    assert done.returncode == 0, done.stderr[-3000:]
    return folder / "runs" / "run"


def steps_logged(run_dir: Path) -> int:
    return len((run_dir / "metrics.jsonl").read_text().splitlines())


def test_the_run_the_others_are_compared_with_follows_a_policy_gradient_that_is_clipped(undisturbed: Path):
    """Guards the tests below: where all rewards of a group are equal, its advantages are 0 and nothing is clipped."""
    records = [json.loads(line) for line in (undisturbed / "metrics.jsonl").read_text().splitlines()]
    groups, size = 4, 4
    # Four groups of equal rewards would have a sum of rewards that four divides (each reward is 0, 1 or 2).
    assert any(round(record["reward"] * groups * size) % size for record in records)
    assert any(0 < record["clip_fraction"] < 1 for record in records)
    assert all(record["grad_norm"] > 0 for record in records)


def test_a_rank_killed_at_rollout_reward_step_and_checkpoint_leaves_no_trace(
    undisturbed: Path, tmp_path: Path, base: str
):
    recipe = write_rl_recipe(tmp_path, "run", start=base)
    run_dir = tmp_path / "runs" / "run"
    # One run, killed five times on its way, and how many steps each start gets further than where it goes on from:
    # with a checkpoint a step that is the last step logged, or the one before if its write was still on its way.
    kills = (("rollout", 2, 1, 1), ("reward", 2, 0, 1), ("step", 6, 1, 1), ("checkpoint", 2, 1, 2), ("rename", 1, 0, 1))
    logged = 0
    for point, count, rank, further in kills:
        killed = run(recipe, point, count, rank)
        assert killed.returncode != 0 and "SIGKILL" in killed.stderr, f"{point}: {killed.stderr[-2000:]}"
        said = re.search(r"goes on after step (\d+)", killed.stdout)
        begun = int(said.group(1)) if said else 0
        assert begun in (logged, max(0, logged - 1)), f"{point}: {killed.stdout[-2000:]}"
        logged = steps_logged(run_dir)
        assert logged == begun + further, f"{point}: {killed.stdout[-2000:]}"
    finished = run(recipe)
    assert finished.returncode == 0, finished.stderr[-3000:]
    assert same_metrics(undisturbed, run_dir) == []


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_to_the_command_itself_saves_and_exits(tmp_path: Path, number: signal.Signals):
    recipe = write_rl_recipe(tmp_path, "run", steps=500, every=1000)
    metrics = tmp_path / "runs" / "run" / "metrics.jsonl"
    environment = {name: value for name, value in os.environ.items() if name not in ("RANK", "WORLD_SIZE")}
    command = subprocess.Popen([sys.executable, "-m", "r1mega.cli.main", "run", str(recipe)], cwd=ROOT, env=environment,
                               stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        deadline = time.monotonic() + 180
        while not (metrics.exists() and metrics.read_text()) and time.monotonic() < deadline:
            time.sleep(0.2)
        command.send_signal(number)
        _, said = command.communicate(timeout=90)
    finally:
        command.kill()
    saved = [path.name for path in (tmp_path / "runs" / "run" / "checkpoints").glob("step-*")]
    assert saved == [f"step-{steps_logged(tmp_path / 'runs' / 'run'):08d}"], said[-2000:]
    assert command.returncode == 128 + number and "Traceback" not in said


def test_under_torchrun_the_recipe_it_starts_from_runs_first_in_the_same_processes(tmp_path: Path):
    write_base_recipe(tmp_path)
    recipe = write_rl_recipe(tmp_path, "run", steps=1, start='recipe = "base.toml"')
    done = run(recipe)
    assert done.returncode == 0, done.stderr[-3000:]
    assert steps_logged(tmp_path / "runs" / "base") == 2 and steps_logged(tmp_path / "runs" / "run") == 1
    base, tokenizer = tmp_path / "runs" / "base", tmp_path / "runs" / "run" / "tokenizer" / "tokenizer.json"
    assert tokenizer.read_bytes() == (base / "tokenizer" / "tokenizer.json").read_bytes()


def test_sigterm_saves_and_exits_and_the_same_command_goes_on(undisturbed: Path, tmp_path: Path, base: str):
    recipe = write_rl_recipe(tmp_path, "run", every=100, start=base)  # only the signal and the last step save
    run_dir = tmp_path / "runs" / "run"
    stopped = run(recipe, "sigterm", 6, 1)  # in the second step, on one rank only: all must agree to stop
    assert stopped.returncode == 0, stopped.stderr[-3000:]
    assert [path.name for path in (run_dir / "checkpoints").glob("step-*")] == ["step-00000002"]
    finished = run(recipe)
    assert finished.returncode == 0, finished.stderr[-3000:]
    assert same_metrics(undisturbed, run_dir) == []

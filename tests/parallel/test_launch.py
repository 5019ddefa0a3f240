"""How ranks start."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from r1mega.config import LayoutConfig, UserError
from r1mega.parallel import launch, start
from r1mega.parallel.launch import adopt_slurm_task
from tests.ranks import ROOT, run_ranks


def describe(folder: str) -> None:
    """Run on every rank: say who I am."""
    import torch.distributed as dist

    groups = start(LayoutConfig(tensor_parallel=2))
    total = [None, None]
    dist.all_gather_object(total, (groups.rank, groups.tp_rank, groups.dp.size()))
    (Path(folder) / f"rank-{groups.rank}").write_text(str(total))


def die(folder: str) -> None:
    if os.environ["RANK"] == "1":
        os.kill(os.getpid(), signal.SIGKILL)


def mistake(folder: str) -> None:
    raise UserError("data.jsonl:3: not JSON; mend the line")


def wait(folder: str) -> None:
    (Path(folder) / f"pid-{os.environ['RANK']}").write_text(str(os.getpid()))
    time.sleep(60)


def launcher(function: str, folder: Path) -> subprocess.CompletedProcess:
    """`launch` in a process of its own, as the command does."""
    code = ("import sys\nfrom r1mega.config import LayoutConfig, UserError\nfrom r1mega.parallel import launch\n"
            "try:\n"
            f"    launch('tests.parallel.test_launch:{function}', {{'folder': {str(folder)!r}}}, "
            "LayoutConfig(tensor_parallel=2))\n"
            "except UserError as error:\n    sys.exit(f'r1mega: {error}')\n")
    environment = {name: value for name, value in os.environ.items() if name not in ("RANK", "WORLD_SIZE")}
    return subprocess.run([sys.executable, "-c", code], cwd=ROOT, env=environment | {"OMP_NUM_THREADS": "1"},
                          capture_output=True, text=True, timeout=120)


def test_launch_starts_the_ranks_of_the_layout_by_itself(tmp_path: Path):
    done = launcher("describe", tmp_path)
    assert done.returncode == 0, done.stderr
    assert [path.read_text() for path in sorted(tmp_path.iterdir())] == [str([(0, 0, 1), (1, 1, 1)])] * 2


def test_a_killed_rank_ends_the_launch_with_one_line(tmp_path: Path):
    done = launcher("die", tmp_path)
    assert done.returncode == 1
    assert "rank 1" in done.stderr and "signal 9" in done.stderr and "Traceback" not in done.stderr


def test_ranks_do_not_outlive_a_launcher_that_is_killed(tmp_path: Path):
    code = f"""from r1mega.config import LayoutConfig; from r1mega.parallel import launch
launch('tests.parallel.test_launch:wait', {{'folder': {str(tmp_path)!r}}}, LayoutConfig(tensor_parallel=2))"""
    environment = {name: value for name, value in os.environ.items() if name not in ("RANK", "WORLD_SIZE")}
    started = subprocess.Popen([sys.executable, "-c", code], cwd=ROOT, env=environment, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 60
    while len(list(tmp_path.iterdir())) < 2 and time.monotonic() < deadline:
        time.sleep(0.1)
    started.kill()
    started.wait()
    pids = [int(path.read_text()) for path in tmp_path.iterdir()]
    while any(Path(f"/proc/{pid}").exists() for pid in pids) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert len(pids) == 2 and not any(Path(f"/proc/{pid}").exists() for pid in pids)


def test_a_mistake_of_the_user_is_said_once_without_a_traceback(tmp_path: Path):
    done = launcher("mistake", tmp_path)
    assert done.returncode == 2
    assert done.stderr.count("data.jsonl:3: not JSON") == 1 and "Traceback" not in done.stderr


def test_one_rank_runs_in_this_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv("RANK", raising=False)
    with pytest.raises(UserError, match="not JSON"):
        launch("tests.parallel.test_launch:mistake", {"folder": str(tmp_path)}, LayoutConfig())


def start_wrongly() -> str:
    try:
        start(LayoutConfig(tensor_parallel=2, data_parallel=2))
    except UserError as error:
        return str(error)
    return "started"


def test_a_world_of_another_size_is_refused_with_the_fix():
    for said in run_ranks(start_wrongly, 2):
        assert "layout needs 4 ranks" in said and "WORLD_SIZE=2" in said and "layout.data_parallel=1" in said


def test_a_task_of_srun_becomes_a_rank():
    environ = {"SLURM_STEP_NUM_TASKS": "4", "SLURM_PROCID": "3", "SLURM_LOCALID": "1", "SLURM_JOB_ID": "123",
               "MASTER_ADDR": "node1"}
    adopt_slurm_task(environ)
    assert (environ["RANK"], environ["WORLD_SIZE"], environ["LOCAL_RANK"]) == ("3", "4", "1")
    assert environ["MASTER_PORT"] == str(29_500 + 123)


def test_the_batch_step_of_a_slurm_job_is_not_a_rank():
    environ = {"SLURM_PROCID": "0", "SLURM_NTASKS": "4"}
    adopt_slurm_task(environ)
    assert "RANK" not in environ

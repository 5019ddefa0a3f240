"""How ranks start."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from r1mega.config import LayoutConfig, UserError
from r1mega.parallel import launch, start
from r1mega.parallel.launch import _rank_environment, adopt_slurm_task
from r1mega.parallel.start import _device
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


def say_devices(folder: str) -> None:
    (Path(folder) / f"rank-{os.environ['RANK']}").write_text(repr(os.environ.get("CUDA_VISIBLE_DEVICES")))


def finish_in_peace(folder: str) -> None:
    """Once told to stop, take some seconds for it, as a step and its checkpoint do."""
    told = []
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1):
        signal.signal(number, lambda number, frame: told.append(number))
    (Path(folder) / f"ready-{os.environ['RANK']}").touch()
    deadline = time.monotonic() + 60
    while not told and time.monotonic() < deadline:
        time.sleep(0.05)
    ends = time.monotonic() + 4
    while time.monotonic() < ends:
        time.sleep(0.05)
    (Path(folder) / f"saved-{os.environ['RANK']}").touch()


def never_end(folder: str) -> None:
    """Deaf to everything, as in a collective that hangs."""
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, signal.SIG_IGN)
    wait(folder)


def begin(function: str, folder: Path, before: str = "") -> subprocess.Popen:
    """`launch` in a process of its own, as the command does; `before` is code that runs first."""
    code = ("import sys\nfrom r1mega.config import LayoutConfig, UserError\nfrom r1mega.parallel import launch\n"
            f"{before}\n"
            "try:\n"
            f"    launch('tests.parallel.test_launch:{function}', {{'folder': {str(folder)!r}}}, "
            "LayoutConfig(tensor_parallel=2))\n"
            "except UserError as error:\n    sys.exit(f'r1mega: {error}')\n")
    environment = {name: value for name, value in os.environ.items() if name not in ("RANK", "WORLD_SIZE")}
    return subprocess.Popen([sys.executable, "-c", code], cwd=ROOT, env=environment | {"OMP_NUM_THREADS": "1"},
                            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def launcher(function: str, folder: Path, before: str = "") -> subprocess.CompletedProcess:
    started = begin(function, folder, before)
    try:
        out, err = started.communicate(timeout=120)
    finally:
        started.kill()
    return subprocess.CompletedProcess(started.args, started.returncode, out, err)


def until(number: int, pattern: str, folder: Path) -> list[Path]:
    deadline = time.monotonic() + 60
    while len(found := list(folder.glob(pattern))) < number and time.monotonic() < deadline:
        time.sleep(0.1)
    return found


def test_launch_starts_the_ranks_of_the_layout_by_itself(tmp_path: Path):
    done = launcher("describe", tmp_path)
    assert done.returncode == 0, done.stderr
    assert [path.read_text() for path in sorted(tmp_path.iterdir())] == [str([(0, 0, 1), (1, 1, 1)])] * 2


def test_a_killed_rank_ends_the_launch_with_one_line(tmp_path: Path):
    done = launcher("die", tmp_path)
    assert done.returncode == 1
    assert "rank 1" in done.stderr and "signal 9" in done.stderr and "Traceback" not in done.stderr


def test_ranks_do_not_outlive_a_launcher_that_is_killed(tmp_path: Path):
    started = begin("wait", tmp_path)
    pids = [int(path.read_text()) for path in until(2, "pid-*", tmp_path)]
    started.kill()
    started.communicate()
    assert len(pids) == 2 and all_end(pids)


def all_end(pids: list[int]) -> bool:
    deadline = time.monotonic() + 20
    while any(Path(f"/proc/{pid}").exists() for pid in pids) and time.monotonic() < deadline:
        time.sleep(0.1)
    return not any(Path(f"/proc/{pid}").exists() for pid in pids)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_after_a_signal_ranks_get_as_long_as_they_need(tmp_path: Path, number: signal.Signals):
    # Torch's launcher would kill them 30 s after a signal; here after 1, so that the test is short.
    impatient = ("from torch.distributed.elastic.multiprocessing.api import PContext\n"
                 "PContext.close.__defaults__ = (None, 1)")
    started = begin("finish_in_peace", tmp_path, impatient)
    until(2, "ready-*", tmp_path)
    started.send_signal(number)
    _, said = started.communicate(timeout=60)
    assert len(list(tmp_path.glob("saved-*"))) == 2, said
    assert started.returncode == 128 + number and "Traceback" not in said, said


def test_a_second_interrupt_ends_ranks_that_do_not_listen(tmp_path: Path):
    started = begin("never_end", tmp_path)
    pids = [int(path.read_text()) for path in until(2, "pid-*", tmp_path)]
    started.send_signal(signal.SIGINT)
    time.sleep(1.5)
    assert started.poll() is None
    started.send_signal(signal.SIGINT)
    _, said = started.communicate(timeout=20)
    assert started.returncode == 128 + signal.SIGINT and said == "" and all_end(pids)


def test_with_fewer_gpus_than_ranks_all_run_on_the_cpu_and_one_line_says_so(tmp_path: Path):
    done = launcher("say_devices", tmp_path, "import torch; torch.cuda.device_count = lambda: 1")
    assert done.returncode == 0, done.stderr
    assert [path.read_text() for path in tmp_path.iterdir()] == ["''"] * 2
    assert done.stderr.count("2 ranks but 1 GPU: ") == 1


@pytest.mark.parametrize("devices", [0, 2, 8])
def test_without_a_gpu_or_with_enough_of_them_nothing_is_hidden(monkeypatch: pytest.MonkeyPatch, devices: int):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: devices)
    assert _rank_environment(2).keys() == {"OMP_NUM_THREADS"}


@pytest.mark.parametrize(("visible", "environ", "chosen"), [
    (4, {"LOCAL_RANK": "3", "LOCAL_WORLD_SIZE": "4"}, 3),
    (1, {"LOCAL_RANK": "3"}, 0),  # a task of srun with a card of its own
    (2, {"LOCAL_RANK": "0", "LOCAL_WORLD_SIZE": "4"}, None),
    (2, {"LOCAL_RANK": "2"}, None),  # srun does not say how many tasks there are
])
def test_no_two_ranks_share_a_gpu(monkeypatch: pytest.MonkeyPatch, visible: int, environ: dict, chosen: int | None):
    for name in ("LOCAL_RANK", "LOCAL_WORLD_SIZE"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environ.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: visible)
    monkeypatch.setattr(torch.cuda, "set_device", lambda device: None)
    if chosen is None:
        with pytest.raises(UserError, match=f"{visible} GPUs.*start at most {visible} ranks a machine"):
            _device()
    else:
        assert _device() == torch.device("cuda", chosen)


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

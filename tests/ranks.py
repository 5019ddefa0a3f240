"""Run a function on real ranks, one process each: `run_ranks(function, num_ranks, *args)`.

The function must be importable by name (a plain function at the top of a test module), and what it takes and
returns must be picklable. Every rank is a process of its own in the environment torchrun would give it: a fork of one
that has only imported things (see rank_server.py), or a fresh interpreter where imports or GPUs matter.
"""

import atexit
import faulthandler
import importlib
import json
import os
import pickle
import signal
import subprocess
import sys
import tempfile
import threading
import time
import traceback
from collections.abc import Callable
from datetime import timedelta
from functools import cache
from pathlib import Path
from typing import Any, Literal, NoReturn

ROOT = Path(__file__).resolve().parent.parent
READ_BY_IMPORTS = ("TRITON_INTERPRET",)  # variables that a rank must have before it imports anything
GRACE_S = 5.0  # what the other ranks get to finish, or to raise an error of their own, once one has failed


class RankError(AssertionError):
    """A rank raised, died or hung; the message holds what each such rank said last."""


def run_ranks(
    function: Callable[..., Any],
    num_ranks: int,
    *args: Any,
    timeout: float = 120,
    init: Literal["gloo"] | None = None,
    gpus: bool = False,
) -> list[Any]:
    """Call `function(*args)` in `num_ranks` processes at once and return the results, by rank.

    Set in every rank: RANK, WORLD_SIZE, LOCAL_RANK, LOCAL_WORLD_SIZE, MASTER_ADDR, MASTER_PORT (the store is
    served from here, so nobody else can take the port in between) and OMP_NUM_THREADS=1. With `init="gloo"`
    the default process group is there when the function is called. Ranks see no GPU unless the test wants `gpus`, one
    for each rank.

    Raises RankError with the tracebacks if a rank raises or dies, and with the stacks of all threads if one
    still runs after `timeout` seconds (times TEST_TIMEOUT_SCALE from the environment, for busy machines). No
    process outlives the call, nor the caller's process.
    """
    from torch.distributed import TCPStore

    timeout *= float(os.environ.get("TEST_TIMEOUT_SCALE", "1"))
    store = TCPStore(  # named, so that it is served until all ranks are done
        "127.0.0.1", 0, is_master=True, wait_for_workers=False, timeout=timedelta(seconds=timeout)
    )
    with tempfile.TemporaryDirectory(prefix="ranks-") as name:
        folder = Path(name)
        call = (function.__module__, function.__name__, args, init)
        (folder / "call.pickle").write_bytes(pickle.dumps(call))
        extra = {} if gpus else {"CUDA_VISIBLE_DEVICES": ""}
        start = _fresh if gpus or any(name in os.environ for name in READ_BY_IMPORTS) else _forked
        ranks = [_Rank(rank, num_ranks, store.port, folder, extra, start) for rank in range(num_ranks)]
        try:
            hung = _wait(ranks, time.monotonic() + timeout)
            for rank in ranks:
                rank.stop()
            failed = [rank for rank in ranks if rank.failure(hung) is not None]
            if failed:
                raise RankError("\n".join(rank.failure(hung) for rank in failed))
            return [pickle.loads(rank.result_file.read_bytes()) for rank in ranks]
        finally:
            for rank in ranks:
                rank.stop()


def _wait(ranks: list["_Rank"], deadline: float) -> bool:
    """Until all ranks have ended, or GRACE_S after one has failed. True if the deadline came first."""
    grace_ends = float("inf")
    while any(rank.process.poll() is None for rank in ranks):
        now = time.monotonic()
        if now > deadline:
            return True
        if any(rank.process.poll() not in (None, 0) for rank in ranks):
            grace_ends = min(grace_ends, now + GRACE_S)
        if now > grace_ends:
            return False
        time.sleep(0.02)
    return False


class _Rank:
    """One child process and its files."""

    def __init__(
        self, rank: int, num_ranks: int, port: int, folder: Path, extra: dict[str, str], start: Callable
    ) -> None:
        self.rank = rank
        self.result_file = folder / f"result-{rank}.pickle"
        self.log_file = folder / f"log-{rank}.txt"
        self.stopped = False
        environment = os.environ | {
            "RANK": str(rank),
            "WORLD_SIZE": str(num_ranks),
            "LOCAL_RANK": str(rank),
            "LOCAL_WORLD_SIZE": str(num_ranks),
            "MASTER_ADDR": "127.0.0.1",
            "MASTER_PORT": str(port),
            "TORCHELASTIC_USE_AGENT_STORE": "True",
            "TORCHELASTIC_RESTART_COUNT": "0",
            "OMP_NUM_THREADS": "1",
            "PYTHONPATH": os.pathsep.join([str(ROOT), *filter(None, sys.path)]),
            **extra,
        }
        self.process = start(folder, rank, environment, self.log_file)

    def stop(self) -> None:
        """End the process if it still runs: first so that it dumps its stacks, then for good."""
        if self.process.poll() is None:
            self.stopped = True
            self.process.send_signal(signal.SIGABRT)
            try:
                self.process.wait(2)
            except subprocess.TimeoutExpired:
                self.process.kill()
        self.process.wait()
        if self.process.stdin is not None:
            self.process.stdin.close()

    def failure(self, hung: bool) -> str | None:
        """What went wrong here, with the last lines the process wrote; None if it returned its result.

        A rank that was only stopped because another one failed is no failure of its own.
        """
        if self.stopped and not hung:
            return None
        if not self.stopped and self.process.returncode == 0 and self.result_file.exists():
            return None
        what = "still running at the timeout" if self.stopped else f"exit status {self.process.returncode}"
        log = self.log_file.read_text(errors="replace")[-8000:]
        return f"----- rank {self.rank}: {what}\n{log}"


def _fresh(folder: Path, rank: int, environment: dict[str, str], log_file: Path) -> subprocess.Popen:
    """A new interpreter."""
    with log_file.open("wb") as log:
        return subprocess.Popen([sys.executable, "-m", "tests.ranks", str(folder)], env=environment,
                                stdin=subprocess.PIPE, stdout=log, stderr=log)


class _Fork:
    """A rank that the server has started; as much of subprocess.Popen as is needed here."""

    stdin = None

    def __init__(self, pid: int, exit_file: Path) -> None:
        self.pid, self.exit_file = pid, exit_file
        self.returncode: int | None = None

    def poll(self) -> int | None:
        if self.returncode is None and self.exit_file.exists():
            self.returncode = int(self.exit_file.read_text())
        return self.returncode

    def wait(self, timeout: float = 60) -> int:
        deadline = time.monotonic() + timeout
        while self.poll() is None:
            if time.monotonic() > deadline:
                raise subprocess.TimeoutExpired("rank", timeout)
            time.sleep(0.005)
        return self.returncode

    def send_signal(self, number: int) -> None:
        os.kill(self.pid, number)

    def kill(self) -> None:
        os.kill(self.pid, signal.SIGKILL)


def _forked(folder: Path, rank: int, environment: dict[str, str], log_file: Path) -> _Fork:
    """A copy of the server."""
    server = _server()
    call = {"folder": str(folder), "rank": rank, "environment": environment, "log": str(log_file)}
    server.stdin.write(json.dumps(call) + "\n")
    server.stdin.flush()
    said = server.stdout.readline()
    if not said:
        raise RankError("the server of ranks has ended (python -m tests.rank_server)")
    return _Fork(int(said), folder / f"exit-{rank}")


@cache
def _server() -> subprocess.Popen:
    """One for each process of tests, ended with it."""
    environment = os.environ | {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": "",
                                "PYTHONPATH": os.pathsep.join([str(ROOT), *filter(None, sys.path)])}
    server = subprocess.Popen([sys.executable, "-m", "tests.rank_server"], env=environment, cwd=ROOT, text=True,
                              stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    atexit.register(server.stdin.close)
    return server


def _exit_with_parent() -> None:
    """Our stdin is a pipe nobody writes to: it ends when the parent does, however that came about."""
    sys.stdin.buffer.read()
    os._exit(1)


def call_and_exit(folder: Path) -> NoReturn:
    """What a rank does: the call that lies in `folder`; its result or its traceback."""
    faulthandler.enable(sys.__stderr__, all_threads=True)
    status = 0
    try:
        module, name, args, init = pickle.loads((folder / "call.pickle").read_bytes())
        function = getattr(importlib.import_module(module), name)
        if init is not None:
            import torch.distributed

            torch.distributed.init_process_group(init)
        result = function(*args)
        partial = folder / f"partial-{os.environ['RANK']}"
        partial.write_bytes(pickle.dumps(result))
        partial.rename(folder / f"result-{os.environ['RANK']}.pickle")
        if init is not None:
            torch.distributed.barrier()
            torch.distributed.destroy_process_group()
    except BaseException:
        traceback.print_exc()
        status = 1
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)  # without waiting for communicators that a failing test left open


if __name__ == "__main__":
    threading.Thread(target=_exit_with_parent, daemon=True).start()
    call_and_exit(Path(sys.argv[1]))

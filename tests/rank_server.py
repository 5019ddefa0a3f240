"""`python -m tests.rank_server`: imports torch, Megatron and the trainer once, and makes every rank a fork of itself.

A rank that starts afresh spends most of a small test's time on imports. Here it is a copy of a process that has done
them, that has started no thread, no process group and no random stream of torch's, and that is used for nothing else.

A line of standard input is a JSON object {folder, rank, environment, log}: start that rank. Its process id comes back
on standard output; once it has ended, how (as subprocess has it: negative for a signal) is in folder/exit-RANK. The end
of standard input ends all ranks, and the server.
"""

import contextlib
import ctypes
import importlib
import json
import os
import select
import signal
import sys
from pathlib import Path

PRELOADED = ("torch.distributed", "r1mega.stage.bench", "r1mega.stage.pretrain", "r1mega.stage.rejection_sampling",
             "r1mega.stage.rl", "r1mega.stage.sft", "r1mega.training.checkpoint", "tests.ranks")
PR_SET_PDEATHSIG = 1


def main() -> None:
    for name in PRELOADED:
        importlib.import_module(name)
    if len(os.listdir("/proc/self/task")) > 1:
        sys.exit("an import has started a thread, and a fork would lack it")
    started: dict[int, Path] = {}  # process id -> where to say how it ended
    while True:
        ready, _, _ = select.select([sys.stdin], [], [], 0.02 if started else None)
        if ready:
            line = sys.stdin.readline()
            if not line:
                break
            call = json.loads(line)
            pid = _fork(call)
            started[pid] = Path(call["folder"]) / f"exit-{call['rank']}"
            print(pid, flush=True)
        _reap(started)
    for pid in started:
        os.kill(pid, signal.SIGKILL)


def _fork(call: dict) -> int:
    pid = os.fork()
    if pid:
        return pid
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    log = os.open(call["log"], os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    nothing = os.open(os.devnull, os.O_RDONLY)
    for here, there in ((nothing, 0), (log, 1), (log, 2)):
        os.dup2(here, there)
    os.environ.clear()
    os.environ.update(call["environment"])
    from tests.ranks import call_and_exit

    call_and_exit(Path(call["folder"]))


def _reap(started: dict[int, Path]) -> None:
    """Say of every rank that has ended how it did; whole, or not yet."""
    for pid in list(started):
        ended, status = os.waitpid(pid, os.WNOHANG)
        if ended:
            path = started.pop(pid)
            partial = path.with_suffix(".partial")
            with contextlib.suppress(FileNotFoundError):  # nobody waits any more, and the folder is gone
                partial.write_text(str(os.waitstatus_to_exitcode(status)))
                partial.rename(path)


if __name__ == "__main__":
    main()

"""The parent of checking processes: imports what scorers need once, and forks a worker whenever asked.

Started by process_pool.py as a fresh interpreter with an environment of its own, it has no threads, no torch
and no secrets; so forking it is safe and takes milliseconds, where starting a worker from nothing takes
seconds.

Messages on the control socket (one JSON object each): {"load": [scorers]}, {"spawn": {"cpu_seconds",
"memory_mb"}} with the worker's end of a channel, {"reap": pid}. Each is answered by one object.
"""

import ctypes
import gc
import os
import signal
import socket
import sys
from typing import Any

from r1mega.reward.control import obey_until_closed
from r1mega.reward.scorer import load_scorer
from r1mega.reward.worker import serve

PR_SET_PDEATHSIG = 1


def main(control_fd: int) -> None:
    """Serve the process at the other end of `control_fd` until it closes or dies. Workers die with this process."""
    libc = ctypes.CDLL(None, use_errno=True)
    obey_until_closed(control_fd, lambda control: lambda request, descriptors: _obey(
        request, descriptors, libc, control), max_descriptors=1)


def _obey(
    request: dict[str, Any], descriptors: list[int], libc: ctypes.CDLL, control: socket.socket
) -> dict[str, Any]:
    match request:
        case {"load": scorers}:
            for scorer in scorers:
                load_scorer(scorer)
            gc.collect()
            gc.freeze()  # forked workers then share these pages
            return {"loaded": scorers}
        case {"spawn": limits}:
            channel = descriptors[0]
            nursery = os.getpid()
            pid = os.fork()
            if pid == 0:
                libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
                if os.getppid() != nursery:  # it died before the line above
                    os._exit(1)
                control.close()
                serve(channel, **limits)
            os.close(channel)
            return {"pid": pid}
        case {"reap": pid}:
            os.kill(pid, signal.SIGKILL)  # no other process can have this pid before the wait below
            status = os.waitpid(pid, 0)[1]
            return {"signal": os.WTERMSIG(status) if os.WIFSIGNALED(status) else 0}
    raise ValueError(f"unknown request {request}")


if __name__ == "__main__":
    main(int(sys.argv[1]))

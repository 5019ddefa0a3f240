"""The parent of checking processes: imports what scorers need once, and forks a worker whenever asked.

Started by process_pool.py as a fresh interpreter with an environment of its own, it has no threads, no torch
and no secrets; so forking it is safe and takes milliseconds, where starting a worker from nothing takes
seconds.

Messages on the control socket (one JSON object each): {"load": [scorers]}, {"spawn": {"cpu_seconds",
"memory_mb"}} with the worker's end of a channel, {"reap": pid}. Each is answered by one object.
"""

import ctypes
import gc
import json
import os
import select
import signal
import socket
import sys
from typing import Any

from r1mega.reward.scorer import load_scorer
from r1mega.reward.worker import serve

PR_SET_PDEATHSIG = 1
MESSAGE_BYTES = 1 << 16
PARENT_CHECK_S = 2.0  # a copy of the socket may outlive the parent in some other process it forked


def main(control_fd: int) -> None:
    """Serve the process at the other end of `control_fd` until it closes or dies."""
    # A job that is asked to stop still has to finish its step
    for ignored in (signal.SIGTERM, signal.SIGINT):
        signal.signal(ignored, signal.SIG_IGN)
    libc = ctypes.CDLL(None, use_errno=True)
    parent = os.getppid()
    control = socket.socket(fileno=control_fd)
    while True:
        if not select.select([control], [], [], PARENT_CHECK_S)[0]:
            if os.getppid() != parent:
                break
            continue
        message, descriptors, _, _ = socket.recv_fds(control, MESSAGE_BYTES, 1)
        if not message:
            break
        reply = _obey(json.loads(message), descriptors, libc, control)
        control.send(json.dumps(reply).encode())
    # Workers die with this process.


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

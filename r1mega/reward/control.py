"""What the small processes that start others have in common: they obey one socket, and end with whoever holds it."""

import json
import os
import select
import signal
import socket
from collections.abc import Callable
from typing import Any

MESSAGE_BYTES = 1 << 16
PARENT_CHECK_S = 2.0  # a copy of the socket may outlive the parent in some other process it forked

Obey = Callable[[dict[str, Any], list[int]], dict[str, Any]]


def obey_until_closed(control_fd: int, begin: Callable[[socket.socket], Obey], max_descriptors: int) -> None:
    """Answer the requests (JSON, with file descriptors) of the process at the other end of `control_fd`, by what
    `begin` returns, until it closes or dies."""
    for ignored in (signal.SIGTERM, signal.SIGINT):  # a job that is asked to stop still has to finish its step
        signal.signal(ignored, signal.SIG_IGN)
    parent = os.getppid()
    control = socket.socket(fileno=control_fd)
    obey = begin(control)
    waiting = select.poll()  # select itself knows no descriptors beyond 1,023, and trainers may have many
    waiting.register(control, select.POLLIN)
    while True:
        if not waiting.poll(1000 * PARENT_CHECK_S):
            if os.getppid() != parent:
                break
            continue
        message, descriptors, _, _ = socket.recv_fds(control, MESSAGE_BYTES, max_descriptors)
        if not message:
            break
        control.send(json.dumps(obey(json.loads(message), descriptors)).encode())

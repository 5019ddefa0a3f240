"""Starts untrusted programs: a process of one thread, without secrets, that knows no test and no answer.

The parent of this process (sandbox.py) talks to it on a socket, one JSON object a message, each answered by one:
{"start": {…}} with three descriptors gives {"pid": n} or {"error": why}, {"end": pid} gives {"status": n}.
"""

import contextlib
import os
import shutil
import signal
import socket
import sys
import tempfile
from typing import Any, NoReturn

from r1mega.reward.code import system_calls as kernel
from r1mega.reward.code.confinement import (
    DRIVER,
    INNER_ID,
    PROGRAM,
    Limits,
    Streams,
    become_program,
    execute,
    write_program,
)
from r1mega.reward.control import Obey, obey_until_closed

WALLS = (kernel.CLONE_NEWNS | kernel.CLONE_NEWPID | kernel.CLONE_NEWNET | kernel.CLONE_NEWIPC | kernel.CLONE_NEWUTS
         | kernel.CLONE_NEWCGROUP)
FLAGS = {"user": WALLS | kernel.CLONE_NEWUSER, "root": WALLS}
SPARE_IDS = 30_000  # at the upper end of those this user may give away; one for each launcher


class Launcher:
    """Programs run one at a time; each is the first process of its namespaces, so nothing outlives it."""

    def __init__(self):
        self._alive = os.pipe()  # its write end closes with this process
        self._folder: str | None = None  # of a program without walls
        kernel.prctl("adopting orphans", kernel.PR_SET_CHILD_SUBREAPER, 1)

    def start(self, walls: str, is_function: bool, limits: Limits, streams: Streams) -> int:
        """The pid of the program, seen from here. Raises OSError with the reason if it cannot be confined."""
        go_read, go_write = os.pipe()
        status_read, status_write = os.pipe()
        if walls == "none":
            self._folder = tempfile.mkdtemp(prefix="r1mega-code-")
        outer = outer_id() if walls != "none" else os.geteuid()
        try:
            pid = kernel.clone(FLAGS[walls] | signal.SIGCHLD) if walls != "none" else os.fork()
        except OSError:
            _close(go_read, go_write, status_read, status_write)
            raise
        if pid == 0:
            _close(go_write, status_read)
            self._child(walls, is_function, limits, streams, (go_read, status_write, outer))
        _close(go_read, status_write)
        try:
            if walls == "user":
                _write_maps(pid, outer)
            os.write(go_write, b"1")
        except OSError as error:
            self.end(pid)
            raise OSError(f"identity maps: {error}") from None
        finally:
            _close(go_write)
            with os.fdopen(status_read, "rb") as status:
                refused = status.read()  # until the program is executed
        if refused:
            self.end(pid)
            raise OSError(refused.decode())
        return pid

    def end(self, pid: int) -> int:
        """Kill a program and all that it started; its exit status, or minus the signal that ended it."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(pid, signal.SIGKILL)
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)  # no other process can have this pid before the wait below
        status = os.waitpid(pid, 0)[1]
        if self._folder is not None:
            _kill_orphans()
            shutil.rmtree(self._folder, ignore_errors=True)
            self._folder = None
        return os.waitstatus_to_exitcode(status)

    def _child(
        self, walls: str, is_function: bool, limits: Limits, streams: Streams, extra: tuple[int, int, int]
    ) -> NoReturn:
        go, status, outer = extra
        try:
            parent, held = self._alive
            os.close(held)
            if not os.read(go, 1):
                os._exit(1)
            if walls == "none":
                os.setsid()
                os.chdir(self._folder)
                write_program(self._folder, streams.source)
                script = os.path.join(self._folder, DRIVER if is_function else PROGRAM)
                execute(limits, streams, script, parent, self._folder, is_confined=False)
            user_id = outer if walls == "root" else INNER_ID
            become_program(limits, streams, is_function, user_id, parent)
        except BaseException as error:
            os.write(status, (str(error) or type(error).__name__).encode())
        finally:
            os._exit(1)


def outer_id() -> int:
    """The user that a program is outside its namespace: one of its own where root may give some away, else ours."""
    if os.geteuid() != 0:
        return os.geteuid()
    with open("/proc/self/uid_map") as file:
        inside, _, count = map(int, file.read().splitlines()[-1].split())
    if count <= 2 * SPARE_IDS:
        return 0
    return inside + count - 2 * SPARE_IDS + os.getpid() % SPARE_IDS


def _write_maps(pid: int, outer: int) -> None:
    """Tell the kernel who the program's user is. Root keeps its own number too, for the steps that need it."""
    own = os.geteuid()
    for name, mine in (("uid", own), ("gid", os.getegid())):
        if name == "gid" and own != 0:
            with open(f"/proc/{pid}/setgroups", "w") as file:
                file.write("deny")
        lines = f"{INNER_ID} {mine} 1\n" if outer == own else f"0 {mine} 1\n{INNER_ID} {outer} 1\n"
        with open(f"/proc/{pid}/{name}_map", "w") as file:
            file.write(lines)


def _kill_orphans() -> None:
    """Without namespaces: what a program left behind is now a child of ours."""
    while True:
        with open("/proc/thread-self/children") as file:
            children = file.read().split()
        if not children:
            return
        for child in children:
            os.kill(int(child), signal.SIGKILL)
            os.waitpid(int(child), 0)


def _close(*descriptors: int) -> None:
    for descriptor in descriptors:
        os.close(descriptor)


def main(control_fd: int) -> None:
    """Serve the process at the other end of `control_fd` until it closes or dies. Programs die with this process."""
    def begin(_: socket.socket) -> Obey:
        launcher = Launcher()
        return lambda request, descriptors: _obey(request, descriptors, launcher)

    obey_until_closed(control_fd, begin, max_descriptors=3)


def _obey(request: dict[str, Any], descriptors: list[int], launcher: Launcher) -> dict[str, Any]:
    match request:
        case {"start": {"walls": walls, "function": is_function, "limits": limits}}:
            try:
                return {"pid": launcher.start(walls, is_function, Limits(*limits), Streams(*descriptors))}
            except OSError as error:
                return {"error": str(error)}
            finally:
                _close(*descriptors)
        case {"end": pid}:
            return {"status": launcher.end(pid)}
    raise ValueError(f"unknown request {request}")


if __name__ == "__main__":
    main(int(sys.argv[1]))

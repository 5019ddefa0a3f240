"""One place where untrusted programs run, one after the other."""

import json
import os
import socket
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, Self

from r1mega.reward.code.confinement import Limits

Walls = Literal["user", "root", "none"]
LAUNCHER_S = 120.0
REPLY_BYTES = 1 << 16


class NoSandbox(Exception):
    """The kernel refuses to confine a program; says why."""


class LauncherLost(Exception):
    """The launcher died (and its program with it)."""


@dataclass(slots=True)
class Program:
    """A running program: its pid out here, and our ends of its input and output, which do not block."""

    pid: int
    stdin: int
    stdout: int


class Sandbox:
    """Runs one program at a time. A context manager; not to be shared by threads.

    `walls`: "user", all namespaces and a user of its own; "root", the same without a user namespace, for root on
    kernels that have none; "none", limits only.
    """

    def __init__(self, walls: Walls):
        self._walls = walls
        self._launcher: subprocess.Popen | None = None
        self._control: socket.socket | None = None

    def start(self) -> None:
        """Start the launcher, unless it runs already."""
        if self._launcher is not None:
            return
        self._control, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._control.settimeout(LAUNCHER_S)
        # Only what an interpreter needs: no tokens, keys or addresses of the job.
        environment = {"PATH": os.defpath, "LANG": "C.UTF-8",
                       "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
        with theirs:
            self._launcher = subprocess.Popen(
                [sys.executable, "-m", "r1mega.reward.code.launcher", str(theirs.fileno())], env=environment,
                pass_fds=[theirs.fileno()], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                start_new_session=True)

    def close(self) -> None:
        """End the launcher and whatever it runs."""
        if self._control is not None:
            self._control.close()
            self._control = None
        if self._launcher is not None:
            self._launcher.kill()
            self._launcher.wait()
            self._launcher = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def run(self, source: str, is_function: bool, limits: Limits) -> Program:
        """Start a program; with `is_function` by way of driver.py, which calls one of its functions.

        Raises NoSandbox where it cannot be confined, LauncherLost.
        """
        self.start()
        theirs_in, stdin = os.pipe()
        stdout, theirs_out = os.pipe()
        text = os.memfd_create("program")
        try:
            with open(text, "wb", closefd=False) as file:
                file.write(source.encode(errors="surrogatepass"))
            reply = self._ask({"start": {"walls": self._walls, "function": is_function, "limits": limits}},
                              [text, theirs_in, theirs_out])
            if "error" in reply:
                raise NoSandbox(reply["error"])
        except BaseException:
            os.close(stdin)
            os.close(stdout)
            raise
        finally:
            for descriptor in (text, theirs_in, theirs_out):
                os.close(descriptor)
        os.set_blocking(stdin, False)
        os.set_blocking(stdout, False)
        return Program(reply["pid"], stdin, stdout)

    def end(self, program: Program) -> int:
        """Kill a program and everything it started; its exit status, or minus the number of the signal that ended it.

        The status is for notes only: a program may exit as it likes. Raises LauncherLost.
        """
        for descriptor in (program.stdin, program.stdout):
            if descriptor >= 0:
                os.close(descriptor)
        return self._ask({"end": program.pid})["status"]

    def _ask(self, request: dict[str, Any], descriptors: Sequence[int] = ()) -> dict[str, Any]:
        try:
            socket.send_fds(self._control, [json.dumps(request).encode()], descriptors)
            reply = self._control.recv(REPLY_BYTES)
        except OSError as error:
            raise LauncherLost from error
        if not reply:
            raise LauncherLost
        return json.loads(reply)

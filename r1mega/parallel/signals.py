"""What the launcher is sent reaches its ranks, and they get as long as they need."""

import contextlib
import os
import signal
import time
from collections.abc import Iterator, Mapping
from types import FrameType
from typing import Any

import psutil

# What a rank is sent instead: it saves and ends on SIGTERM, and whoever closes the terminal wants no less.
FORWARDED = {signal.SIGTERM: signal.SIGTERM, signal.SIGINT: signal.SIGINT, signal.SIGUSR1: signal.SIGUSR1,
             signal.SIGHUP: signal.SIGTERM}
IMPATIENCE_S = 1.0  # two Ctrl-C closer than this are one


class Forwarding:
    """While entered, hands signals on to the ranks. A second Ctrl-C kills them.

    Torch's launcher must be told to leave these signals alone (LaunchConfig.signals_to_handle): by its own handlers
    ranks are killed 30 s after a signal, in the middle of a step or a checkpoint.
    """

    def __init__(self, command: str) -> None:
        """`command` tells ranks from other children: it is one of their arguments."""
        self.first: int | None = None  # the first signal that came
        self._command = command
        self._interrupted: float | None = None
        self._before: dict[int, Any] = {}

    def __enter__(self) -> "Forwarding":
        for number in FORWARDED:
            if signal.getsignal(number) != signal.SIG_IGN:  # nohup's wish is ours
                self._before[number] = signal.signal(number, self._forward)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _forward(self, number: int, frame: FrameType | None) -> None:
        self.first = self.first or number
        now, impatient = time.monotonic(), False
        if number == signal.SIGINT:
            self._interrupted = self._interrupted or now
            impatient = now - self._interrupted > IMPATIENCE_S
        ranks = [child for child in psutil.Process().children() if self._is_rank(child)]
        for rank in ranks:
            with contextlib.suppress(psutil.NoSuchProcess):
                rank.send_signal(signal.SIGKILL if impatient else FORWARDED[signal.Signals(number)])
        if not ranks:
            raise SystemExit(128 + number)

    def _is_rank(self, child: psutil.Process) -> bool:
        with contextlib.suppress(psutil.Error):
            return self._command in child.cmdline()
        return False


@contextlib.contextmanager
def environment(changes: Mapping[str, str]) -> Iterator[None]:
    """Environment variables for the processes started meanwhile."""
    before = {name: os.environ.get(name) for name in changes}
    os.environ.update(changes)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value

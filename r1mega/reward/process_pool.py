"""Checks answers in processes that may hang, crash or eat memory without anyone else noticing."""

import contextlib
import json
import os
import selectors
import signal
import socket
import subprocess
import sys
import time
from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Self

from r1mega.config.rl import RewardConfig
from r1mega.reward.scorer import Check, Verdict

BATCH = 64  # checks in one message to a worker: enough to hide the round trip
READ_BYTES = 1 << 16
LONGEST_REPLY = 1 << 14  # a worker that writes more without a line's end has gone mad
# Of the CPU limit: for a worker that sleeps; far beyond what a busy machine makes of it.
WALL_FACTOR, WALL_EXTRA_S = 10.0, 30.0
NURSERY_S = 300.0  # loading every scorer takes 3 s on an idle machine
MAX_ATTEMPTS = 2  # a check whose worker died of anything but its time may try once more, in a fresh worker
MAX_RESTARTS = 3  # of the nursery, in one call


class NurseryLost(Exception):
    """The nursery died; whatever its workers had not answered must be asked again."""


@dataclass(slots=True)
class _Worker:
    pid: int
    channel: socket.socket
    indices: deque[int] = field(default_factory=deque)  # checks sent and not answered, in the worker's order
    received: bytes = b""
    deadline: float = 0.0  # of the check it is at


class ProcessPool:
    """`check` many answers; results come in the order of the questions and do not depend on one another.

    A check may use `timeout_s` seconds of CPU from its own start (waiting for a worker does not count), and
    `memory_mb` of memory. The CPU's clock, not the wall's, keeps rewards the same on a busy machine; a wall
    limit of 10 times as much and 30 s stands behind it.
    """

    def __init__(self, config: RewardConfig):
        self._limits = {"cpu_seconds": config.timeout_s, "memory_mb": config.memory_mb}
        self._timeout_s = config.timeout_s
        self._wall_s = WALL_FACTOR * config.timeout_s + WALL_EXTRA_S
        self._memory_mb = config.memory_mb
        self._num_workers = config.workers
        self._loaded: set[str] = set()
        self._nursery: subprocess.Popen | None = None
        self._control: socket.socket | None = None
        self._workers: list[_Worker] = []

    def start(self, scorers: Iterable[str] = ()) -> None:
        """Start the nursery, which begins to load `scorers` while the caller goes on."""
        if self._nursery is not None:
            return
        self._control, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._control.settimeout(NURSERY_S)
        # Only what an interpreter needs: no tokens, keys or addresses of the job; one hash seed, so that sets
        # have the same order in every worker.
        environment = {"PATH": os.defpath, "LANG": "C.UTF-8", "PYTHONHASHSEED": "0", "OMP_NUM_THREADS": "1",
                       "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
        with theirs:
            self._nursery = subprocess.Popen(
                [sys.executable, "-m", "r1mega.reward.nursery", str(theirs.fileno())], env=environment,
                pass_fds=[theirs.fileno()], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                start_new_session=True)

    def close(self) -> None:
        """End the nursery and its workers."""
        for worker in self._workers:
            worker.channel.close()
        self._workers.clear()
        self._loaded.clear()
        if self._control is not None:
            self._control.close()
            self._control = None
        if self._nursery is not None:
            self._nursery.kill()
            self._nursery.wait()
            self._nursery = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def check(self, checks: Sequence[Check]) -> list[Verdict]:
        """A verdict for each check, in their order."""
        if not checks:
            return []
        verdicts: list[Verdict | None] = [None] * len(checks)
        for _ in range(MAX_RESTARTS):
            try:
                self.start()
                self._prepare({check.scorer for check in checks})
                self._run(checks, verdicts)
                return verdicts
            except NurseryLost:
                self.close()
        self.close()
        raise RuntimeError(f"the process that starts answer checkers died {MAX_RESTARTS} times in a row; is "
                           "the machine out of memory?")

    def _prepare(self, scorers: set[str]) -> None:
        missing = sorted(scorers - self._loaded)
        if missing:
            self._ask({"load": missing})
            self._loaded.update(missing)
            while self._workers:  # they were forked before this was loaded
                self._bury(self._workers[-1])
        while len(self._workers) < self._num_workers:
            self._spawn()

    def _run(self, checks: Sequence[Check], verdicts: list[Verdict | None]) -> None:
        waiting = deque(index for index, verdict in enumerate(verdicts) if verdict is None)
        attempts = [0] * len(checks)
        share = max(1, min(BATCH, len(waiting) // (4 * self._num_workers)))
        with selectors.DefaultSelector() as selector:
            for worker in self._workers:
                selector.register(worker.channel, selectors.EVENT_READ, worker)
            while waiting or any(worker.indices for worker in self._workers):
                for worker in list(self._workers):
                    if waiting and not worker.indices:
                        first = [waiting.popleft() for _ in range(min(share, len(waiting)))]
                        self._send(worker, first, checks)
                busy = [worker.deadline for worker in self._workers if worker.indices]
                ready = {
                    key.data.pid: key.data
                    for key, _ in selector.select(max(0.0, min(busy) - time.monotonic()))
                }
                now = time.monotonic()
                late = [worker for worker in self._workers
                        if worker.indices and worker.pid not in ready and now > worker.deadline]
                failed = late + [worker for worker in ready.values() if not self._receive(worker, verdicts)]
                for worker in failed:
                    selector.unregister(worker.channel)
                    fresh = self._replace(worker, worker in late, attempts, verdicts, waiting, checks)
                    selector.register(fresh.channel, selectors.EVENT_READ, fresh)

    def _send(self, worker: _Worker, indices: list[int], checks: Sequence[Check]) -> None:
        worker.indices.extend(indices)
        worker.deadline = time.monotonic() + self._wall_s
        # A worker that is gone shows as the end of its channel, where its checks are given to others.
        with contextlib.suppress(OSError):
            worker.channel.sendall(json.dumps([checks[index] for index in indices]).encode() + b"\n")

    def _receive(self, worker: _Worker, verdicts: list[Verdict | None]) -> bool:
        """Take in what a worker wrote; False if it is gone or no longer makes sense."""
        try:
            data = worker.channel.recv(READ_BYTES)
        except OSError:
            return False
        *lines, worker.received = (worker.received + data).split(b"\n")
        for line in lines:
            try:
                right, note = json.loads(line)
            except (TypeError, ValueError):
                return False
            if right is None or not worker.indices:  # out of memory; or more answers than questions
                return False
            verdicts[worker.indices.popleft()] = Verdict(right is True, str(note)[:200])
            worker.deadline = time.monotonic() + self._wall_s
        return bool(data) and len(worker.received) <= LONGEST_REPLY

    def _replace(self, worker: _Worker, is_late: bool, attempts: list[int], verdicts: list[Verdict | None],
                 waiting: deque[int], checks: Sequence[Check]) -> _Worker:
        """A fresh worker for one that failed at the first of its unanswered checks; the others wait again."""
        unanswered = list(worker.indices)
        worker.indices.clear()
        killed_by = self._bury(worker)
        fresh = self._spawn()
        if not unanswered:
            return fresh
        culprit, *innocent = unanswered
        waiting.extendleft(reversed(innocent))
        attempts[culprit] += 1
        if is_late or killed_by == signal.SIGPROF:
            clock = f"{self._wall_s:g} s" if is_late else f"{self._timeout_s:g} s of CPU"
            verdicts[culprit] = Verdict(False, f"timed out after {clock}")
        elif attempts[culprit] < MAX_ATTEMPTS:  # another may have killed it, or filled its memory before
            self._send(fresh, [culprit], checks)
        elif killed_by:
            verdicts[culprit] = Verdict(False, f"the checker died twice ({signal.Signals(killed_by).name})")
        else:
            verdicts[culprit] = Verdict(False, f"the checker ran out of {self._memory_mb} MB")
        return fresh

    def _spawn(self) -> _Worker:
        ours, theirs = socket.socketpair()
        with theirs:
            reply = self._ask({"spawn": self._limits}, theirs)
        ours.settimeout(self._wall_s)
        worker = _Worker(reply["pid"], ours)
        self._workers.append(worker)
        return worker

    def _bury(self, worker: _Worker) -> int:
        """Kill and reap; the number of the signal that ended it, 0 if it ended by itself."""
        self._workers.remove(worker)
        worker.channel.close()
        return self._ask({"reap": worker.pid})["signal"]

    def _ask(self, request: dict[str, Any], descriptor: socket.socket | None = None) -> dict[str, Any]:
        message = json.dumps(request).encode()
        try:
            socket.send_fds(self._control, [message], [descriptor.fileno()] if descriptor else [])
            reply = self._control.recv(READ_BYTES)
        except OSError as error:
            raise NurseryLost from error
        if not reply:
            raise NurseryLost
        return json.loads(reply)

"""Talking to a running program: bytes in, bytes out, while its time and memory are watched from outside."""

import os
import selectors
import time
from dataclasses import dataclass
from typing import Self

from r1mega.config.rl import CodeConfig
from r1mega.reward.code.sandbox import Program
from r1mega.reward.code.usage import usage_of

POLL_S = 0.02
CHUNK_BYTES = 1 << 16
# Of the time limit: for what is neither running nor asleep, such as waiting for a core on a busy machine
WALL_FACTOR, WALL_EXTRA_S = 10.0, 30.0


class Failed(Exception):
    """The program failed its test; says how."""


@dataclass(slots=True)
class Clock:
    """Time of one program that counts for one test: of the CPU, and asleep. Waiting for a core does not count, so
    verdicts are the same on a busy machine."""

    program: Program
    config: CodeConfig
    cpu_before: float
    started: float
    last: float
    next_check: float
    asleep_s: float = 0.0

    @classmethod
    def start(cls, program: Program, config: CodeConfig) -> Self:
        usage, now = usage_of(program.pid), time.monotonic()
        return cls(program, config, usage.cpu_s if usage else 0.0, now, now, now + POLL_S)

    def check(self) -> None:
        """Raises Failed past a limit."""
        now = time.monotonic()
        passed, self.last, self.next_check = now - self.last, now, now + POLL_S
        usage = usage_of(self.program.pid)
        if usage is None:
            return  # it has ended: its output says so
        if usage.is_asleep:
            self.asleep_s += min(passed, 2 * POLL_S)  # of a longer pause of ours, nothing is known
        if usage.memory_bytes > self.config.memory_mb * 2**20:
            raise Failed(f"used more than memory_mb={self.config.memory_mb}")
        if usage.cpu_s - self.cpu_before + self.asleep_s > self.config.timeout_s:
            raise Failed(f"timed out after {self.config.timeout_s:g} s")
        if now - self.started > WALL_FACTOR * self.config.timeout_s + WALL_EXTRA_S:
            raise Failed(f"timed out after {now - self.started:.0f} s of waiting")


def converse(program: Program, sent: bytes, is_last: bool, config: CodeConfig, clock: Clock | None = None) -> bytes:
    """Write `sent`, read the reply: a line (without its end), or with `is_last` all until the output ends.

    With `is_last` the input ends after `sent`. `clock`: one that counts several conversations together. Raises Failed
    past a limit, or where the reply is no such line.
    """
    clock, received, limit = clock or Clock.start(program, config), bytearray(), config.max_output_kb * 1024
    clock.last = time.monotonic()  # before that, it waited for us
    with selectors.DefaultSelector() as selector:
        selector.register(program.stdout, selectors.EVENT_READ)
        pending = memoryview(sent)
        if pending:
            selector.register(program.stdin, selectors.EVENT_WRITE)
        elif is_last:
            _end_input(program)
        while True:
            if time.monotonic() >= clock.next_check:
                clock.check()
            events = selector.select(max(0.0, clock.next_check - time.monotonic()))
            for key, _ in events:
                if key.fd == program.stdin:
                    pending = _write(program, pending)
                    if not pending:
                        selector.unregister(program.stdin)
                        if is_last:
                            _end_input(program)
                    continue
                chunk = _read(program)
                received += chunk
                if len(received) > limit:
                    raise Failed(f"wrote more than max_output_kb={config.max_output_kb}")
                if is_last and not chunk:
                    return bytes(received)
                if not is_last and b"\n" in received:
                    return _one_line(received)
                if not chunk:
                    raise Failed("ended without an answer")


def _one_line(received: bytearray) -> bytes:
    line, _, rest = bytes(received).partition(b"\n")
    if rest:
        raise Failed("wrote more than the answer")
    return line


def _read(program: Program) -> bytes:
    return os.read(program.stdout, CHUNK_BYTES)


def _write(program: Program, pending: memoryview) -> memoryview:
    """What is left to write; nothing where nobody reads."""
    try:
        return pending[os.write(program.stdin, pending[:CHUNK_BYTES]):]
    except BlockingIOError:
        return pending
    except BrokenPipeError:
        return pending[:0]


def _end_input(program: Program) -> None:
    os.close(program.stdin)
    program.stdin = -1

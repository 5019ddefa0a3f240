"""A checking process: reads checks, writes verdicts, and is allowed nothing else.

It is forked by the nursery. Its limits are the kernel's, not Python's: past its CPU time it is killed by
SIGPROF even in the middle of one long multiplication, past its memory an allocation fails.
"""

import json
import os
import resource
import signal
import sys
from typing import NoReturn

from r1mega.reward.scorer import Check, judge

READ_BYTES = 1 << 16

# What Python tells an audit hook when code opens, starts, sends or removes something. Reading modules stays
# possible.
FORBIDDEN = (
    "os.",
    "subprocess.",
    "socket.",
    "shutil.",
    "ctypes.",
    "pty.",
    "fcntl.",
    "mmap.",
    "tempfile.",
    "gc.",
    "resource.",
    "signal.",
    "syslog.",
    "glob.",
    "urllib.",
    "http.",
    "ftplib.",
    "smtplib.",
    "webbrowser.",
    "sqlite3.",
    "pickle.",
    "sys.settrace",
    "sys.setprofile",
    "sys.addaudithook",
)
PERMITTED = ("os.listdir", "os.scandir")  # the import system looks into folders
WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND


def serve(channel: int, cpu_seconds: float, memory_mb: int) -> NoReturn:
    """Answer the checks that arrive at the file descriptor `channel` until it closes.

    In: one line a batch, a JSON list of checks. Out: one line a check as soon as it is done, a JSON pair
    [right, note]. A check that runs out of memory is answered by [null, "memory"] and ends the process.
    """
    _confine(channel, memory_mb)
    pending = b""
    while data := os.read(channel, READ_BYTES):
        pending += data
        if not data.endswith(b"\n"):
            continue
        batch, pending = json.loads(pending), b""
        for fields in batch:
            signal.setitimer(signal.ITIMER_PROF, cpu_seconds)
            try:
                verdict = judge(Check(*fields))
                reply = [verdict.right, verdict.note]
            except MemoryError:
                reply = [None, "memory"]
            except Exception as error:  # whatever a library makes of such an answer, the answer is not right
                reply = [False, f"the scorer raised {type(error).__name__}"]
            signal.setitimer(signal.ITIMER_PROF, 0)
            os.write(channel, json.dumps(reply).encode() + b"\n")
            if reply[0] is None:
                os._exit(1)
    os._exit(0)


def _confine(channel: int, memory_mb: int) -> None:
    nothing = os.open(os.devnull, os.O_RDWR)
    for standard in (0, 1, 2):
        os.dup2(nothing, standard)
    signal.signal(signal.SIGPROF, signal.SIG_DFL)
    with open("/proc/self/statm") as file:
        start_bytes = int(file.read().split()[0]) * os.sysconf("SC_PAGE_SIZE")
    limit = start_bytes + memory_mb * 2**20
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))

    def refuse(event: str, arguments: tuple) -> None:
        writes = event == "open" and isinstance(arguments[2], int) and arguments[2] & WRITING
        if writes or (event.startswith(FORBIDDEN) and event not in PERMITTED):
            # An exception could be caught by the very code that must be stopped.
            os.write(
                channel,
                json.dumps([False, f"refused: the answer made the scorer try {event}"]).encode() + b"\n",
            )
            os._exit(1)

    sys.addaudithook(refuse)

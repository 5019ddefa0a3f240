"""What a program and all its descendants use, as the kernel counts it: read outside, so nothing in it can be forged."""

import os
from typing import NamedTuple

TICK_S = 1 / os.sysconf("SC_CLK_TCK")


class Usage(NamedTuple):
    cpu_s: float  # of all processes of the tree, and of those that ended and were waited for
    memory_bytes: int  # resident, without pages of files
    is_asleep: bool  # no thread runs, waits for a core or for a disk


def usage_of(pid: int) -> Usage | None:
    """Of the tree of processes below `pid`; None when it is gone.

    In a PID namespace every orphan becomes a child of its first process, so the tree is the whole of it.
    """
    total, memory, asleep = 0.0, 0, True
    waiting, seen = [pid], set()
    while waiting:
        process = waiting.pop()
        seen.add(process)
        try:
            fields = _fields(f"/proc/{process}/stat")
            if fields[0] == "Z":
                if process == pid:
                    return None
            else:
                memory += _anonymous_bytes(process)
                for thread in os.listdir(f"/proc/{process}/task"):
                    asleep = asleep and _fields(f"/proc/{process}/task/{thread}/stat")[0] not in "RD"
                    with open(f"/proc/{process}/task/{thread}/children") as file:
                        waiting += [child for child in map(int, file.read().split()) if child not in seen]
        except (FileNotFoundError, ProcessLookupError):
            if process == pid:
                return None
            continue
        total += sum(map(int, fields[11:15])) * TICK_S  # utime, stime, cutime, cstime
    return Usage(total, memory, asleep)


def _fields(path: str) -> list[str]:
    """The fields of a stat file from the state on: a program chooses its own name, which may hold brackets."""
    with open(path, errors="replace") as file:
        return file.read().rpartition(")")[2].split()


def _anonymous_bytes(process: int) -> int:
    with open(f"/proc/{process}/status", errors="replace") as file:
        return sum(int(line.split()[1]) * 1024 for line in file if line.startswith(("RssAnon:", "RssShmem:")))

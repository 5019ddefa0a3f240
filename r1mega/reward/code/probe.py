"""Can programs be confined here? Tried, not guessed: a program looks around inside and its findings are checked."""

import json
import os
from collections.abc import Sequence
from typing import NamedTuple

from r1mega.config.rl import CodeConfig
from r1mega.reward.code.call_filter import call_filter
from r1mega.reward.code.compare import NotJson, read_json
from r1mega.reward.code.confinement import Limits
from r1mega.reward.code.dialog import Failed, converse
from r1mega.reward.code.sandbox import LauncherLost, NoSandbox, Sandbox, Walls

PROBE = """
import json, os, socket
def writes(path):
    try:
        open(path, "w").close()
        return True
    except OSError:
        return False
def filtered():
    try:
        socket.socket().close()
        return False
    except PermissionError:
        return True
print(json.dumps({
    "is_first_process": os.getpid() == 1, "is_root": os.getuid() == 0 or os.geteuid() == 0,
    "sees_processes": os.path.exists("/proc/self"), "writes_root": writes("/written"),
    "writes_library": writes(os.path.dirname(os.__file__) + "/written"), "writes_scratch": writes("/tmp/written"),
    "is_filtered": filtered(), "host": os.uname().nodename}), flush=True)
input()
"""
NAMESPACES = ("mnt", "pid", "net", "ipc", "uts", "cgroup")


class Isolation(NamedTuple):
    """How programs are confined."""

    walls: Walls
    text: str  # for people


def find_walls() -> Isolation:
    """The best walls this machine has. Raises NoSandbox with the reason of each that it refused."""
    reasons = []
    for walls in ("user", "root") if os.geteuid() == 0 else ("user",):
        try:
            with Sandbox(walls) as sandbox:
                return Isolation(walls, _look_around(sandbox, walls))
        except NoSandbox as error:
            reasons.append(f"{walls} namespaces: {error}")
        except LauncherLost:
            reasons.append(f"{walls} namespaces: the process that starts programs died")
    raise NoSandbox("; ".join(reasons))


def _look_around(sandbox: Sandbox, walls: Walls) -> str:
    program = sandbox.run(PROBE, False, Limits(30, 512, 4, 8))
    try:
        found = read_json(converse(program, b"", False, CodeConfig(timeout_s=20.0)))
        shared = _shared_namespaces(program.pid, (*NAMESPACES, "user") if walls == "user" else NAMESPACES)
    except (Failed, NotJson, OSError) as error:
        raise NoSandbox(f"a program cannot run inside ({error})") from None
    finally:
        sandbox.end(program)
    if shared:
        raise NoSandbox(f"a program inside shares our namespaces of {', '.join(shared)}")
    expected = {"is_first_process": True, "is_root": False, "sees_processes": False, "writes_root": False,
                "writes_library": False, "writes_scratch": True, "is_filtered": bool(call_filter()),
                "host": "sandbox"}
    wrong = {name: found.get(name) for name, value in expected.items() if found.get(name) != value}
    if wrong:
        raise NoSandbox(f"a program inside finds {json.dumps(wrong)}")
    own = "a user, " if walls == "user" else ""
    calls = "; filtered kernel calls" if call_filter() else "; kernel calls not filtered on this processor"
    return f"programs get {own}processes, mounts, a network, a host name and IPC of their own{calls}"


def _shared_namespaces(pid: int, kinds: Sequence[str]) -> list[str]:
    """Those that a process has in common with us, as the kernel says out here."""
    return [kind for kind in kinds if os.readlink(f"/proc/{pid}/ns/{kind}") == os.readlink(f"/proc/self/ns/{kind}")]

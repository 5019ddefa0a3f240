"""What a process does to itself before it becomes an untrusted program."""

import contextlib
import glob
import os
import resource
import select
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple, NoReturn

from r1mega.reward.code import system_calls as kernel
from r1mega.reward.code.call_filter import call_filter

# The new root is built on this folder: nothing that a program needs lies below it, and it is everywhere.
NEW_ROOT = "/proc"
PROGRAM, DRIVER, SCRATCH = "program.py", "driver.py", "tmp"
DEVICES = ("null", "zero", "full", "random", "urandom")
INNER_ID = 1000  # the program's user and group, as it sees them
MAX_OPEN_FILES = 64
MAX_INODES = 4096
STACK_BYTES = 16 * 2**20
LIBRARIES = ("/lib", "/lib64", "/lib32", "/libx32", "/usr/lib", "/usr/lib64", "/etc/ld.so.cache")
PACKAGES = ("/usr/lib/python3*/dist-packages", "/usr/lib*/python3*/site-packages")
PYTHON_FLAGS = ("-P", "-s", "-B")  # no folder of the program's on the path, no user's packages, no .pyc files


class Limits(NamedTuple):
    """The kernel's, each of one process; the checker's own, of all of a program's processes, lie inside them."""

    cpu_s: int
    memory_mb: int
    scratch_mb: int
    processes: int


class Streams(NamedTuple):
    """File descriptors of the process to be: its program's source, its input and its output."""

    source: int
    stdin: int
    stdout: int


def read_only_paths() -> list[str]:
    """What a program may read: the interpreter, its library and the C libraries; none inside another."""
    base = sys.base_prefix
    wanted = [os.path.realpath(sys._base_executable), f"{base}/lib", f"{base}/lib64", *LIBRARIES]
    kept: list[str] = []
    for path in sorted({os.path.normpath(path) for path in wanted if os.path.lexists(path)}):
        if not any(path.startswith(other + "/") for other in kept if not os.path.islink(other)):
            kept.append(path)
    return kept


def hidden_paths() -> list[str]:
    """Installed packages, which may bring data sets and their tests along."""
    patterns = [f"{sys.base_prefix}/lib*/python3*/{kind}-packages" for kind in ("site", "dist")]
    found = {os.path.realpath(path) for pattern in (*patterns, *PACKAGES) for path in glob.glob(pattern)}
    return sorted(path for path in found if os.path.isdir(path))


def become_program(limits: Limits, streams: Streams, is_function: bool, user_id: int, parent: int) -> NoReturn:
    """Never returns: the process, first of new namespaces, locks itself in and executes Python on the source.

    `user_id`: who it becomes, if it may. `parent`: a pipe's end that hangs up when the launcher dies. Raises OSError
    naming the first step that the kernel refused.
    """
    os.setsid()
    kernel.mount(None, "/", None, kernel.MS_REC | kernel.MS_PRIVATE)  # nothing below shows outside
    build_root(read_only_paths(), hidden_paths(), limits.scratch_mb, streams.source)
    kernel.set_host_name("sandbox")
    kernel.drop_bounding_set()
    if os.getuid() != user_id:
        os.setgroups([])
        os.setresgid(user_id, user_id, user_id)
        os.setresuid(user_id, user_id, user_id)
    kernel.drop_capabilities()
    script = f"/{DRIVER if is_function else PROGRAM}"
    os.chdir(f"/{SCRATCH}")
    execute(limits, streams, script, parent, f"/{SCRATCH}", is_confined=True)


def execute(
    limits: Limits, streams: Streams, script: str, parent: int, scratch: str, is_confined: bool
) -> NoReturn:
    """The last steps, which need no privilege: limits, descriptors, the filter, the interpreter."""
    kernel.prctl("no_new_privs", kernel.PR_SET_NO_NEW_PRIVS, 1)
    kernel.prctl("dying with the launcher", kernel.PR_SET_PDEATHSIG, signal.SIGKILL)
    if any(event & select.POLLHUP for _, event in _poll(parent)):  # it died before the line above
        os._exit(1)
    set_limits(limits, has_own_user=is_confined)
    for number in (signal.SIGTERM, signal.SIGINT):  # the launcher ignores them
        signal.signal(number, signal.SIG_DFL)
    # Both are above 2: the launcher's own 0, 1 and 2 are open
    os.dup2(streams.stdin, 0)
    os.dup2(streams.stdout, 1)
    os.dup2(os.open("/dev/null", os.O_WRONLY), 2)
    for number in range(3, 256):
        with contextlib.suppress(OSError):
            os.set_inheritable(number, False)
    environment = {"PATH": "", "HOME": scratch, "TMPDIR": scratch, "LANG": "C.UTF-8", "PYTHONHASHSEED": "0",
                   "OMP_NUM_THREADS": "1"}
    python = os.path.realpath(sys._base_executable)
    if is_confined and (instructions := call_filter()):
        kernel.set_filter(instructions)
    os.execve(python, [python, *PYTHON_FLAGS, script], environment)


def build_root(read_only: Sequence[str], hidden: Sequence[str], scratch_mb: int, source: int) -> None:
    """A root of its own: libraries to read, a few devices, a scratch folder that ends with the namespace."""
    mounted = mount_points()
    locked_down = kernel.MS_NOSUID | kernel.MS_NODEV
    kernel.mount("root", NEW_ROOT, "tmpfs", locked_down, f"size=4m,nr_inodes={MAX_INODES},mode=755")
    for path in read_only:
        _show(path)
    for path in hidden:
        if os.path.isdir(NEW_ROOT + path):
            kernel.mount("hidden", NEW_ROOT + path, "tmpfs", locked_down | kernel.MS_RDONLY, "size=4k,mode=755")
    for path in sorted(mounted):
        if any(path == shown or path.startswith(shown + "/") for shown in read_only) and path not in hidden:
            _make_read_only(NEW_ROOT + path)
    for path in read_only:
        if not os.path.islink(path):
            _make_read_only(NEW_ROOT + path)
    os.mkdir(f"{NEW_ROOT}/dev")
    for name in DEVICES:
        Path(f"{NEW_ROOT}/dev/{name}").touch()
        kernel.mount(f"/dev/{name}", f"{NEW_ROOT}/dev/{name}", None, kernel.MS_BIND)
    os.mkdir(f"{NEW_ROOT}/{SCRATCH}")
    kernel.mount("scratch", f"{NEW_ROOT}/{SCRATCH}", "tmpfs", locked_down | kernel.MS_NOEXEC,
                 f"size={scratch_mb}m,nr_inodes={MAX_INODES},mode=1777")
    write_program(NEW_ROOT, source)
    kernel.make_root(NEW_ROOT)
    kernel.mount(None, "/", None, kernel.MS_REMOUNT | kernel.MS_BIND | kernel.MS_RDONLY | locked_down)


def write_program(folder: str, source: int) -> None:
    """The program, read from a descriptor, and the driver beside it."""
    with open(source, "rb", closefd=False) as file:
        file.seek(0)
        Path(folder, PROGRAM).write_bytes(file.read())
    Path(folder, DRIVER).write_text(DRIVER_TEXT)


DRIVER_TEXT = Path(__file__).with_name("driver.py").read_text()  # read before the root changes


def mount_points() -> set[str]:
    """Where something is mounted, as this process sees it."""
    with open("/proc/self/mountinfo") as file:
        return {line.split()[4].replace("\\040", " ") for line in file}


def set_limits(limits: Limits, has_own_user: bool) -> None:
    """The kernel's limits. The number of processes is the user's, so only a user of its own can have one."""
    memory = limits.memory_mb * 2**20
    values = {
        # core(5): 1 byte, not 0, also keeps dumps from a handler that the host may have
        resource.RLIMIT_AS: memory, resource.RLIMIT_CPU: limits.cpu_s, resource.RLIMIT_CORE: 1,
        resource.RLIMIT_FSIZE: limits.scratch_mb * 2**20, resource.RLIMIT_NOFILE: MAX_OPEN_FILES,
        resource.RLIMIT_STACK: STACK_BYTES, resource.RLIMIT_MEMLOCK: 0, resource.RLIMIT_MSGQUEUE: 0,
    }
    if has_own_user:
        values[resource.RLIMIT_NPROC] = limits.processes
    for name, value in values.items():
        hard = resource.getrlimit(name)[1]
        value = value if hard == resource.RLIM_INFINITY else min(value, hard)
        resource.setrlimit(name, (value, value))


def _show(path: str) -> None:
    """Bind a file or folder of the host, or repeat a symbolic link, at the same place below the new root."""
    target = NEW_ROOT + path
    os.makedirs(os.path.dirname(target), mode=0o755, exist_ok=True)
    if os.path.islink(path):
        os.symlink(os.readlink(path), target)
        return
    if os.path.isdir(path):
        os.makedirs(target, mode=0o755, exist_ok=True)
    else:
        Path(target).touch()
    kernel.mount(path, target, None, kernel.MS_BIND | kernel.MS_REC)


def _make_read_only(target: str) -> None:
    """Remounting must repeat the flags that a mount has: in a user namespace they cannot be taken away."""
    state = os.statvfs(target).f_flag
    kept = state & (os.ST_NOSUID | os.ST_NODEV | os.ST_NOEXEC | os.ST_NOATIME | os.ST_NODIRATIME)
    kept |= kernel.MS_RELATIME if state & os.ST_RELATIME else 0
    flags = kept | kernel.MS_REMOUNT | kernel.MS_BIND | kernel.MS_RDONLY | kernel.MS_NOSUID | kernel.MS_NODEV
    kernel.mount(None, target, None, flags)


def _poll(descriptor: int) -> list[tuple[int, int]]:
    poller = select.poll()
    poller.register(descriptor, 0)
    return poller.poll(0)

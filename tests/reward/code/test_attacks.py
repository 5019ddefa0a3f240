"""Programs that reach for what is outside. Each prints "won" where it succeeds, else the name of what stopped it.

So that no attack fails for a reason of its own, those that leave the machine as it is also run without walls, where
they must win.
"""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from r1mega.reward.code.dialog import Failed
from r1mega.reward.code.sandbox import Sandbox
from tests.reward.code.programs import LIMITS, WALLS, demand_isolation, output_of, sandbox_with

TRY = """
import ctypes, os, sys
libc = ctypes.CDLL(None, use_errno=True)
def called(result):
    if result < 0:
        raise OSError(ctypes.get_errno(), "")
    return result
def attack():
{body}
try:
    print("won" if attack() else "nothing")
except BaseException as error:
    print(type(error).__name__ + (f" {{error.errno}}" if isinstance(error, OSError) else ""))
"""
GONE, READ_ONLY, DENIED, NO_PROCESS = "FileNotFoundError 2", "OSError 30", "PermissionError 1", "ProcessLookupError 3"

# name: (code, what stops it, whether it can be shown to win without walls)
ATTACKS = {
    "read a file": ("return open('{secret}').read() == 'canary'", GONE, True),
    "read it through a symbolic link": (
        "os.symlink('{secret}', 'link'); return open('link').read() == 'canary'", GONE, True),
    "read it up the tree": ("return open('../' * 30 + '{secret}').read() == 'canary'", GONE, True),
    "read it by a hard link": ("os.link('{secret}', 'hard'); return open('hard').read() == 'canary'", GONE, False),
    "write beside it": ("open('{folder}/written', 'w').write('x'); return True", GONE, True),
    "write through a link to the root": (
        "os.symlink('/', 'root'); open('root{folder}/written', 'w').write('x'); return True", GONE, True),
    "write a new file to the root": ("open('/written', 'w'); return True", READ_ONLY, False),
    "write to Python's library": ("open(os.path.dirname(os.__file__) + '/written', 'w'); return True", READ_ONLY,
                                  False),
    "replace itself": ("open('/program.py', 'w'); return True", READ_ONLY, False),
    "replace the driver": ("os.rename('/driver.py', '/tmp/driver.py'); return True", "OSError 18", False),
    "list processes": ("return len(os.listdir('/proc')) > 10", GONE, True),
    "read the environment of another": ("return b'canary' in open('/proc/{victim}/environ', 'rb').read()", GONE, True),
    "read the memory of another": ("return open('/proc/{victim}/mem', 'rb').fileno() > 0", GONE, True),
    "read it by a kernel call": ("""
    buffer = ctypes.create_string_buffer(8)
    local, remote = (ctypes.c_size_t * 2)(ctypes.addressof(buffer), 8), (ctypes.c_size_t * 2)({address}, 8)
    called(libc.process_vm_readv({victim}, local, 1, remote, 1, 0)); return True""", DENIED, False),
    "trace another": ("called(libc.ptrace(16, {victim}, None, None)); return True", DENIED, False),
    "kill another": ("os.kill({victim}, 9); return True", NO_PROCESS, True),
    "connect to this machine": ("import socket; socket.create_connection(('127.0.0.1', {port})); return True", DENIED,
                                True),
    "send a datagram": ("import socket; s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); "
                        "return s.sendto(b'x', ('127.0.0.1', {port})) == 1", DENIED, True),
    "open a raw socket": ("import socket; socket.socket(17, socket.SOCK_RAW); return True", DENIED, False),
    "reach an abstract socket": ("import socket; socket.socket(socket.AF_UNIX).connect('\\0{abstract}'); return True",
                                 DENIED, True),
    "become root": ("os.setuid(0); return True", DENIED, False),
    "a new user namespace": ("os.unshare(0x10000000); return True", DENIED, False),
    "a new namespace by clone": ("pid = libc.syscall({clone}, 0x10000011, 0, 0, 0, 0)\n"
                                 "    if pid == 0: os._exit(0)\n    called(pid); return True", DENIED, False),
    "mount": ("called(libc.mount(b'x', b'/tmp', b'tmpfs', 0, b'')); return True", DENIED, False),
    "unmount what hides packages": ("called(libc.umount2(b'/tmp', 2)); return True", DENIED, False),
    "chroot": ("os.chroot('/tmp'); return True", DENIED, False),
    "make a device": ("import stat; os.mknod('disk', stat.S_IFBLK | 0o600, os.makedev(254, 0)); return True", DENIED,
                      False),
    "memory that no process holds": ("os.memfd_create('x'); return True", DENIED, False),
    "a segment that stays": ("called(libc.shmget(0, 4096, 0o600)); return True", DENIED, False),
    "outlive the launcher": ("called(libc.prctl(1, 0, 0, 0, 0)); return True", DENIED, False),
    "gain by a set-user-id program": ("return libc.prctl(39, 0, 0, 0, 0) != 1", "nothing", False),  # no_new_privs
    "raise a limit": ("import resource; resource.setrlimit(resource.RLIMIT_AS, (-1, -1)); return True", "ValueError",
                      False),
    "set the host's name": ("import socket; socket.sethostname('owned'); return True", DENIED, False),
    "installed packages": (
        "import site; return any(os.listdir(p) for p in site.getsitepackages() if os.path.isdir(p))", "nothing", False),
    "a shell": ("import subprocess; return subprocess.run(['/bin/sh', '-c', 'true']).returncode == 0", GONE, True),
    "the trainer's secrets": ("return any('canary' in value for value in os.environ.values())", "nothing", False),
    "a descriptor left open": ("return any(libc.fcntl(n, 1) >= 0 for n in range(3, 4096))", "nothing", False),
}


@pytest.fixture(scope="module", params=WALLS)
def sandbox(request) -> Iterator[Sandbox]:
    os.environ["R1MEGA_TEST_SECRET"] = "canary"
    try:
        yield from sandbox_with(request.param)
    finally:
        del os.environ["R1MEGA_TEST_SECRET"]


@pytest.fixture(scope="module")
def open_sandbox() -> Iterator[Sandbox]:
    yield from sandbox_with("none")


class Targets:
    """What there is to attack: a file, a process, listeners."""

    def __init__(self, folder: Path):
        (folder / "secret").write_text("canary")
        self.victim = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE,
                                       env={**os.environ, "SECRET": "canary"})
        self.tcp = socket.create_server(("127.0.0.1", 0))
        self.unix = socket.socket(socket.AF_UNIX)
        name = f"r1mega-test-{os.getpid()}"
        self.unix.bind(f"\0{name}")
        self.unix.listen()
        self.names = {"secret": folder / "secret", "folder": folder, "victim": self.victim.pid, "abstract": name,
                      "port": self.tcp.getsockname()[1], "address": id(self),
                      "clone": {"x86_64": 56}.get(os.uname().machine, 220)}

    def close(self) -> None:
        self.tcp.close()
        self.unix.close()
        self.victim.kill()
        self.victim.communicate()


@pytest.fixture
def targets(tmp_path: Path) -> Iterator[Targets]:
    found = Targets(tmp_path)
    yield found
    found.close()


def program_of(name: str, targets: Targets) -> str:
    body = ATTACKS[name][0].format(**targets.names)
    return TRY.format(body="\n".join(line if line.startswith("    ") else "    " + line for line in body.split("\n")))


@pytest.mark.parametrize("name", ATTACKS)
def test_an_attack_is_stopped_by_what_should_stop_it(sandbox: Sandbox, targets: Targets, name: str) -> None:
    assert output_of(sandbox, program_of(name, targets)) == ATTACKS[name][1]
    assert targets.victim.poll() is None
    assert [path.name for path in targets.names["folder"].iterdir()] == ["secret"]
    assert targets.names["secret"].stat().st_nlink == 1
    assert output_of(sandbox, "print(open('/tmp/x', 'w').write('next'))") == "4"


@pytest.mark.parametrize("name", [name for name, (_, _, wins) in ATTACKS.items() if wins])
def test_the_same_attack_wins_without_walls(open_sandbox: Sandbox, targets: Targets, name: str) -> None:
    assert output_of(open_sandbox, program_of(name, targets)) == "won"


def test_killing_everything_and_the_parent_ends_at_most_the_program(sandbox: Sandbox, targets: Targets) -> None:
    source = """
import os
stopped = set()
for number in (15, 9):
    for pid in (*range(2, 40000), os.getppid(), -1):
        try: os.kill(pid, number)
        except OSError as error: stopped.add(type(error).__name__)
print(os.getppid(), stopped)"""
    assert output_of(sandbox, source) == "0 {'ProcessLookupError'}"
    assert targets.victim.poll() is None and sandbox._launcher.poll() is None
    assert output_of(sandbox, "print('next')") == "next"


DAEMON = """
import ctypes, os, signal, sys, time
for number in range(1, 32):
    try: signal.signal(number, signal.SIG_IGN)
    except (OSError, ValueError): pass
for _ in range(2):
    if os.fork():
        {parent}
    os.setsid()
ctypes.CDLL(None).prctl(15, b"{name}", 0, 0, 0)
for n in range(3): os.close(n)
while True: time.sleep(1)
"""


NAME = f"r1d{os.getpid()}"


def daemons() -> list[int]:
    found = []
    for folder in Path("/proc").iterdir():
        try:
            if folder.name.isdecimal() and (folder / "comm").read_text().strip() == NAME:
                found.append(int(folder.name))
        except OSError:
            continue
    return found


def wait_for(count: int) -> None:
    end = time.monotonic() + 10
    while len(daemons()) != count:
        assert time.monotonic() < end, daemons()
        time.sleep(0.02)


@pytest.mark.parametrize("parent", ["os._exit(0)", "time.sleep(1000)"], ids=["parent gone", "parent asleep"])
def test_a_daemon_dies_with_its_program(sandbox: Sandbox, parent: str) -> None:
    program = sandbox.run(DAEMON.format(name=NAME, parent=parent), False, LIMITS)
    if "sleep" in parent:
        wait_for(1)
    sandbox.end(program)
    wait_for(0)


def test_a_program_dies_with_its_launcher() -> None:
    demand_isolation()
    with Sandbox(WALLS[0]) as sandbox:
        program = sandbox.run(DAEMON.format(name=NAME, parent="time.sleep(1000)"), False, LIMITS)
        wait_for(1)
        os.kill(sandbox._launcher.pid, signal.SIGKILL)
        wait_for(0)
        os.close(program.stdin)
        os.close(program.stdout)


def test_a_program_sees_pythons_library_the_c_libraries_and_nothing_else(sandbox: Sandbox) -> None:
    source = f"""
import os
shown = {(f"{sys.base_prefix}/lib", f"{sys.base_prefix}/lib64", "/usr/lib", "/usr/lib64", "/lib", "/lib64")}
for folder, folders, names in os.walk('/'):
    folders[:] = [name for name in folders if os.path.join(folder, name) not in shown]
    for name in names:
        print(os.path.join(folder, name))"""
    python = os.path.realpath(sys._base_executable)
    assert sorted(output_of(sandbox, source).split()) == sorted([
        *(f"/dev/{name}" for name in ("full", "null", "random", "urandom", "zero")), "/driver.py", "/program.py",
        *(["/etc/ld.so.cache"] if os.path.exists("/etc/ld.so.cache") else []), python])


def test_one_programs_scratch_is_not_the_nexts(sandbox: Sandbox) -> None:
    write = "import os\nopen('/tmp/left', 'w').write('x'); print(os.listdir('/tmp'))"
    assert output_of(sandbox, write) == "['left']"
    assert output_of(sandbox, write) == "['left']"
    assert output_of(sandbox, "import os\nprint(os.listdir('/tmp'), os.listdir('/dev/'))").startswith("[] [")


def test_a_limit_that_is_passed_is_an_error_of_the_program_alone(sandbox: Sandbox) -> None:
    with pytest.raises(Failed, match="timed out"):
        output_of(sandbox, "while True: pass")
    assert output_of(sandbox, "print('next')") == "next"

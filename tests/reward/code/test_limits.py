"""Programs that eat: time, memory, processes, output, disk. Each is stopped by the limit it runs into, and the next
program is right, also while the hungry one runs."""

import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from r1mega.reward.code import CodeChecker
from r1mega.reward.code.usage import usage_of
from tests.reward.code.programs import CONFIG, LIMITS, WALLS, demand_isolation, output_of, sandbox_with, stdin_problem

SQUARE = stdin_problem(("3\n", "9\n"), ("4\n", "16\n"))
RIGHT = "print(int(input()) ** 2)"
TIME, MEMORY = "test 1 of 2: timed out after 0.5 s", "test 1 of 2: used more than memory_mb=128"
OUTPUT = "test 1 of 2: wrote more than max_output_kb=256"
CATCH = "try:\n    {}\nexcept BaseException as error: print(type(error).__name__, getattr(error, 'errno', ''))"

HUNGRY = {  # name: (program, how its first test ends)
    "a loop": ("while True: pass", TIME),
    "a loop in C": ("sum(range(10 ** 12))", TIME),
    "a loop that ignores signals": (
        "import signal\nfor n in range(1, 65):\n  try: signal.signal(n, signal.SIG_IGN)\n"
        "  except (OSError, ValueError): pass\nwhile True: pass", TIME),
    "threads": ("import threading\ndef f():\n  while True: pass\n"
                "for _ in range(4): threading.Thread(target=f).start()", TIME),
    "sleep": ("import time\ntime.sleep(10 ** 6)", TIME),
    "a wait for more input": ("import sys, os\nos.read(os.pipe()[0], 1)", TIME),
    "a program that stops itself": ("import os, signal\npid = os.fork()\nif pid: os.waitpid(pid, 0)\n"
                                    "os.kill(os.getpid(), signal.SIGSTOP)", TIME),
    "a child that sleeps while the parent has gone on": ("import os, time\nos.fork()\ntime.sleep(10 ** 6)", TIME),
    "a fork bomb": ("import os\nwhile True:\n  try: os.fork()\n  except OSError: pass", TIME),
    "a fork bomb of short lives": ("import os\nwhile True:\n  try:\n    if os.fork() == 0: os._exit(0)\n    os.wait()\n"
                                   "  except OSError: pass", TIME),
    "a memory bomb by itself": ("x = b'x'\nwhile True: x += x", "test 1 of 2: wrong output (exit status 1)"),
    "a memory bomb of many": ("import os\nfor _ in range(8):\n  if os.fork() == 0: break\n"
                              "x = bytearray(b'x') * (60 << 20)\nwhile True: pass", MEMORY),
    "shared memory": ("import mmap\nx = mmap.mmap(-1, 150 << 20)\nfor n in range(0, len(x), 4096): x[n] = 1\n"
                      "while True: pass", MEMORY),
    "endless output": ("while True: print('x' * 1000)", OUTPUT),
    "endless output without a line": ("import sys\nwhile True: sys.stdout.write('9' * 1000)", OUTPUT),
    "endless errors": ("import sys\nwhile True: sys.stderr.write('x' * 1000)", TIME),
    "endless recursion": ("def f(): f()\nf()", "test 1 of 2: wrong output (exit status 1)"),
    "a crash": ("import ctypes\nctypes.string_at(0)", "test 1 of 2: wrong output (exit status -11)"),
}


@pytest.fixture(scope="module")
def checker() -> Iterator[CodeChecker]:
    demand_isolation()
    with CodeChecker(CONFIG, workers=2) as checker:
        assert all(verdict.right for verdict in checker.check([(SQUARE, RIGHT)] * 2))
        yield checker


@pytest.fixture(scope="module", params=WALLS)
def sandbox(request):
    yield from sandbox_with(request.param)


@pytest.mark.parametrize("name", HUNGRY)
def test_a_hungry_program_is_stopped_and_its_neighbours_are_right(checker: CodeChecker, name: str) -> None:
    program, ending = HUNGRY[name]
    beside, hungry, after = checker.check([(SQUARE, RIGHT), (SQUARE, program), (SQUARE, RIGHT)])
    assert (hungry.right, hungry.note) == (False, ending)
    assert beside.right and after.right


def test_the_number_of_processes_is_limited(sandbox) -> None:
    source = ("import os, time\nfor n in range(100):\n  try:\n    if os.fork() == 0: time.sleep(100)\n"
              "  except OSError as error: print(n, type(error).__name__); break")
    assert output_of(sandbox, source) == f"{LIMITS.processes - 1} BlockingIOError"


def test_the_disk_cannot_be_filled(sandbox) -> None:
    """One file, many files, empty files: 4 MB and 4,096 names, all gone with the program."""
    many = ("n = 0\nwhile True:\n    try: open(f'/tmp/{n}', 'wb').write(b'x' * {size}); n += 1\n"
            "    except OSError as error: print(error.errno, n); break")
    assert output_of(sandbox, CATCH.format("open('/tmp/big', 'wb').write(b'x' * (5 << 20))")) == "OSError 27"
    assert output_of(sandbox, many.replace("{size}", str(1 << 20))) == "28 4"
    error, files = map(int, output_of(sandbox, many.replace("{size}", "0")).split())
    assert error == 28 and 4000 < files <= 4096
    assert output_of(sandbox, "import os\nprint(os.listdir('/tmp'))") == "[]"


def test_a_process_alone_cannot_have_more_memory_than_its_own_limit(sandbox) -> None:
    assert output_of(sandbox, CATCH.format("x = bytearray(200 << 20)")) == "MemoryError"


def test_usage_counts_all_processes_of_a_program_and_knows_sleep(sandbox) -> None:
    """Two processes of 20 MB; both run, then both sleep."""
    source = ("import os, sys, time\npid = os.fork()\nx = bytearray(b'x') * (20 << 20)\n"
              "end = time.process_time() + 0.15\nwhile time.process_time() < end: pass\n"
              "if pid: print('ran', flush=True); time.sleep(100)\ntime.sleep(100)")
    program = sandbox.run(source, False, LIMITS)
    seen = []
    end = time.monotonic() + 20
    while not (seen and seen[-1].is_asleep and seen[-1].cpu_s >= 0.3):
        assert time.monotonic() < end, seen[-3:]
        seen.append(usage_of(program.pid))
        time.sleep(0.01)
    sandbox.end(program)
    assert 40 << 20 < seen[-1].memory_bytes < 80 << 20
    assert 0.3 <= seen[-1].cpu_s < 0.6
    assert any(not usage.is_asleep for usage in seen)
    assert usage_of(program.pid) is None


def test_a_busy_machine_does_not_make_a_program_late(checker: CodeChecker) -> None:
    """0.3 s of CPU on a core shared with three others take longer than the limit of 0.5 s by the wall's clock."""
    core = min(os.sched_getaffinity(0))
    spin = f"import os\nos.sched_setaffinity(0, [{core}])\nwhile True: pass"
    spinners = [subprocess.Popen([sys.executable, "-c", spin]) for _ in range(3)]
    try:
        source = (f"import os, time\nos.sched_setaffinity(0, [{core}])\nend = time.process_time() + 0.3\n"
                  f"while time.process_time() < end: pass\n{RIGHT}")
        began = time.monotonic()
        verdict, = checker.check([(SQUARE, source)])
        assert verdict.right, verdict
        assert time.monotonic() - began > CONFIG.timeout_s
    finally:
        for spinner in spinners:
            spinner.kill()
            spinner.wait()


def test_a_launcher_killed_in_the_middle_costs_nothing(checker: CodeChecker) -> None:
    problem = stdin_problem(*[(f"{n}\n", f"{n * n}\n") for n in range(12)])
    stop = threading.Event()

    def strike() -> None:
        for sandbox in checker._sandboxes * 2:
            if stop.wait(0.15):
                return
            if sandbox._launcher is not None:
                sandbox._launcher.kill()

    striker = threading.Thread(target=strike)
    striker.start()
    verdicts = checker.check([(problem, RIGHT)] * 2)
    stop.set()
    striker.join()
    assert [verdict.right for verdict in verdicts] == [True, True]


def test_leaving_the_checker_leaves_no_process() -> None:
    demand_isolation()
    with CodeChecker(CONFIG, workers=2) as checker:
        checker.check([(SQUARE, RIGHT)] * 2)
        launchers = [sandbox._launcher.pid for sandbox in checker._sandboxes]
    assert len(launchers) == 2 and not any(Path(f"/proc/{pid}").exists() for pid in launchers)

"""Running single programs, for tests: with the walls a checker has, or, to see that an attack is one, without."""

import os
from collections.abc import Iterator
from functools import cache

import pytest

from r1mega.config.rl import CodeConfig
from r1mega.record import Problem
from r1mega.reward.code.confinement import Limits
from r1mega.reward.code.dialog import converse
from r1mega.reward.code.probe import find_walls
from r1mega.reward.code.sandbox import NoSandbox, Sandbox

CONFIG = CodeConfig(timeout_s=0.5, memory_mb=128, scratch_mb=4, processes=12)
LIMITS = Limits(cpu_s=5, memory_mb=192, scratch_mb=4, processes=12)
WALLS = ["user", "root"] if os.geteuid() == 0 else ["user"]


@cache
def refusal() -> str:
    """Why programs cannot be confined here; "" if they can."""
    try:
        find_walls()
    except NoSandbox as error:
        return f"NOT TESTED, this machine offers no isolation at all: {error}"
    return ""


def demand_isolation() -> None:
    """Skips, with the reason, if programs cannot be confined here."""
    if reason := refusal():
        pytest.skip(reason)


def sandbox_with(walls: str) -> Iterator[Sandbox]:
    """A sandbox, for a fixture to yield from."""
    if walls != "none":
        demand_isolation()
    with Sandbox(walls) as sandbox:
        try:
            sandbox.end(sandbox.run("", False, LIMITS))
        except NoSandbox as error:
            pytest.skip(f"NOT TESTED: this kernel refuses {walls} walls: {error}")
        yield sandbox


def output_of(sandbox: Sandbox, source: str, sent: bytes = b"", config: CodeConfig = CONFIG) -> str:
    """Everything a program writes. Raises Failed past a limit."""
    program = sandbox.run(source, False, LIMITS)
    try:
        return converse(program, sent, True, config).decode(errors="replace").strip()
    finally:
        sandbox.end(program)


def stdin_problem(*tests: tuple[str, str]) -> Problem:
    """A problem with (input, output) tests."""
    return Problem("code", "q", "a", "code", {"tests": [{"input": i, "output": o} for i, o in tests]})


def function_problem(function: str, *tests: tuple[list, object]) -> Problem:
    """A problem with (arguments, output) tests."""
    return Problem("code", "q", "a", "code",
                   {"function": function, "tests": [{"arguments": a, "output": o} for a, o in tests]})

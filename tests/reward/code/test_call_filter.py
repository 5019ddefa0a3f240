"""The filter's numbers against the C library's header of the machine it runs on, and its jumps by interpretation."""

import errno
import platform
import re
import struct
from pathlib import Path

import pytest

from r1mega.reward.code.call_filter import ALLOW, ARCHITECTURES, DENIED, ERRNO, KILL, call_filter

REFUSE, NO_SUCH_CALL = ERRNO | errno.EPERM, ERRNO | errno.ENOSYS


def verdict(instructions: bytes, architecture: int, number: int, argument: int = 0) -> int:
    """What the kernel's interpreter of such a filter would return."""
    data = struct.pack("<iIQQ", number, architecture, 0, argument)
    code = [struct.unpack_from("HBBI", instructions, at) for at in range(0, len(instructions), 8)]
    at, value = 0, 0
    while True:
        kind, yes, no, constant = code[at]
        at += 1
        match kind:
            case 0x20:
                value, = struct.unpack_from("<I", data, constant)
            case 0x15:
                at += yes if value == constant else no
            case 0x35:
                at += yes if value >= constant else no
            case 0x45:
                at += yes if value & constant else no
            case 0x06:
                return constant


@pytest.mark.parametrize("machine", ARCHITECTURES)
def test_denied_calls_are_refused_and_others_allowed(machine: str) -> None:
    column, architecture = list(ARCHITECTURES).index(machine), ARCHITECTURES[machine]
    code = call_filter(machine)

    def ask(number: int, argument: int = 0) -> int:
        return verdict(code, architecture, number, argument)

    assert {ask(numbers[column]) for numbers in DENIED.values()} == {REFUSE}
    write, execve, clone, prctl = {"x86_64": (1, 59, 56, 157), "aarch64": (64, 221, 220, 167)}[machine]
    assert ask(write) == ask(execve) == ALLOW
    assert ask(435) == NO_SUCH_CALL  # clone3
    assert ask(clone, 17) == ask(clone, 0x3D0F00) == ALLOW  # SIGCHLD; a thread's flags
    for namespace in range(25, 31):
        assert ask(clone, 1 << namespace | 17) == REFUSE
    assert ask(clone, 0x20000) == REFUSE  # CLONE_NEWNS
    assert ask(prctl, 1) == REFUSE and ask(prctl, 15) == ALLOW
    assert verdict(code, 0x40000003, write) == KILL  # 32-bit x86
    if machine == "x86_64":
        assert ask(0x40000000 | write) == KILL  # x32


def test_a_processor_without_numbers_has_no_filter() -> None:
    assert call_filter("riscv64") == b""


@pytest.mark.skipif(platform.machine() != "x86_64", reason="reads the header of x86_64")
def test_the_numbers_are_the_c_librarys() -> None:
    headers = [path for path in (Path("/usr/include/x86_64-linux-gnu/asm/unistd_64.h"),
                                 Path("/usr/include/asm/unistd_64.h")) if path.exists()]
    if not headers:
        pytest.skip("no kernel headers here")
    known = {name: int(number) for name, number in re.findall(r"#define __NR_(\w+)\s+(\d+)", headers[0].read_text())}
    assert {name: numbers[0] for name, numbers in DENIED.items()} == {name: known[name] for name in DENIED}


def test_the_numbers_for_aarch64_are_the_generic_tables() -> None:
    header = Path("/usr/include/asm-generic/unistd.h")
    if not header.exists():
        pytest.skip("no kernel headers here")
    known = dict(re.findall(r"#define __NR(?:3264)?_(\w+)\s+(\d+)", header.read_text()))
    assert {name: numbers[1] for name, numbers in DENIED.items()} == {name: int(known[name]) for name in DENIED}

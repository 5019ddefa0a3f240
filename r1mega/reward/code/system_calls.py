"""The kernel's calls that a sandbox needs and Python has no name for; each raises OSError naming itself."""

import ctypes
import os
import platform
import struct

MS_RDONLY, MS_NOSUID, MS_NODEV, MS_NOEXEC, MS_REMOUNT = 1, 2, 4, 8, 32
MS_BIND, MS_REC, MS_PRIVATE, MS_RELATIME = 4096, 16384, 1 << 18, 1 << 21
MNT_DETACH = 2
CLONE_NEWNS, CLONE_NEWCGROUP, CLONE_NEWUTS, CLONE_NEWIPC = 0x00020000, 0x02000000, 0x04000000, 0x08000000
CLONE_NEWUSER, CLONE_NEWPID, CLONE_NEWNET = 0x10000000, 0x20000000, 0x40000000
PR_SET_PDEATHSIG, PR_SET_SECCOMP, PR_CAPBSET_DROP, PR_SET_CHILD_SUBREAPER, PR_SET_NO_NEW_PRIVS = 1, 22, 24, 36, 38
PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL = 47, 4
SECCOMP_MODE_FILTER = 2
CAPABILITY_VERSION_3 = 0x20080522
MAX_CAPABILITIES = 64

CLONE = {"x86_64": 56, "aarch64": 220}
PIVOT_ROOT = {"x86_64": 155, "aarch64": 41}
CAPSET = {"x86_64": 126, "aarch64": 91}

# PyDLL keeps the interpreter's lock: a process made by `clone` must not find it given away.
_libc = ctypes.PyDLL(None, use_errno=True)


def clone(flags: int) -> int:
    """fork with namespaces: the child's pid, or 0 in the child. The caller must have one thread only."""
    return _checked("clone", _libc.syscall(_number(CLONE), ctypes.c_ulong(flags), None, None, None, None))


def mount(source: str | None, target: str, kind: str | None, flags: int, options: str = "") -> None:
    """mount(2)."""
    result = _libc.mount(_bytes(source), os.fsencode(target), _bytes(kind), ctypes.c_ulong(flags), options.encode())
    _checked(f"mount {kind or source or ''} on {target}", result)


def make_root(folder: str) -> None:
    """`folder`, a mount point, becomes the root; the old root is gone from this mount namespace."""
    os.chdir(folder)
    _checked("pivot_root", _libc.syscall(_number(PIVOT_ROOT), b".", b"."))
    _checked("umount of the old root", _libc.umount2(b".", MNT_DETACH))  # it lies on top of the new one
    os.chdir("/")


def set_host_name(name: str) -> None:
    """sethostname(2)."""
    _checked("sethostname", _libc.sethostname(name.encode(), ctypes.c_size_t(len(name))))


def prctl(name: str, option: int, value: int = 0, pointer: ctypes.c_void_p | None = None) -> None:
    """prctl(2); `name` is for the error."""
    _checked(name, _libc.prctl(option, ctypes.c_ulong(value), pointer, None, None))


def drop_bounding_set() -> None:
    """No program that this process executes can gain a capability."""
    for capability in range(MAX_CAPABILITIES):
        if _libc.prctl(PR_CAPBSET_DROP, ctypes.c_ulong(capability), None, None, None) != 0:
            if ctypes.get_errno() == 22:  # EINVAL: the kernel knows no more of them
                return
            _checked("dropping the capability bounding set", -1)


def drop_capabilities() -> None:
    """Effective, permitted, inheritable and ambient: none is left."""
    prctl("clearing ambient capabilities", PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL)
    header, nothing = struct.pack("Ii", CAPABILITY_VERSION_3, 0), bytes(24)
    _checked("capset", _libc.syscall(_number(CAPSET), header, nothing))


def set_filter(instructions: bytes) -> None:
    """Install a seccomp filter, a string of 8-byte BPF instructions; needs no_new_privs."""

    class Program(ctypes.Structure):
        _fields_ = [("length", ctypes.c_ushort), ("instructions", ctypes.c_char_p)]

    program = Program(len(instructions) // 8, instructions)
    prctl("seccomp", PR_SET_SECCOMP, SECCOMP_MODE_FILTER, ctypes.cast(ctypes.byref(program), ctypes.c_void_p))


def _number(numbers: dict[str, int]) -> int:
    machine = platform.machine()
    if machine not in numbers:
        raise OSError(f"no sandbox for {machine} processors; there is one for {' and '.join(numbers)}")
    return numbers[machine]


def _bytes(text: str | None) -> bytes | None:
    return None if text is None else os.fsencode(text)


def _checked(what: str, result: int) -> int:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{what}: {os.strerror(number)}")
    return result

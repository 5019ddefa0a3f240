"""A seccomp filter: which kernel calls a program may not make.

Namespaces already take away what these calls would reach; the filter keeps a program from ever trying a hole in
them, and from memory that no limit counts (memfd, System V segments).
"""

import errno
import platform
import struct

LOAD, EQUAL, AT_LEAST, ANY_BIT, RETURN = 0x20, 0x15, 0x35, 0x45, 0x06
ALLOW, ERRNO, KILL = 0x7FFF0000, 0x00050000, 0x80000000
AT_NUMBER, AT_ARCHITECTURE, AT_FIRST_ARGUMENT = 0, 4, 16  # in struct seccomp_data
X32_CALLS = 0x40000000
NEW_NAMESPACES = 0x7E020000  # any CLONE_NEW… flag
CLONE3 = 435

ARCHITECTURES = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}
CLONE = {"x86_64": 56, "aarch64": 220}
PRCTL = {"x86_64": 157, "aarch64": 167}
PR_SET_PDEATHSIG = 1
# Newer calls have one number on all processors: io_uring_* 425-427, open_tree … fspick 428-433, pidfd_getfd 438,
# mount_setattr 442, quotactl_fd 443, memfd_secret 447
DENIED_EVERYWHERE = (425, 426, 427, 428, 429, 430, 431, 432, 433, 438, 442, 443, 447)
DENIED = {  # name: (x86_64, aarch64)
    "acct": (163, 89), "add_key": (248, 217), "bpf": (321, 280), "chroot": (161, 51), "delete_module": (176, 106),
    "finit_module": (313, 273), "init_module": (175, 105), "kcmp": (312, 272), "kexec_file_load": (320, 294),
    "kexec_load": (246, 104), "keyctl": (250, 219), "memfd_create": (319, 279), "mount": (165, 40),
    "msgget": (68, 186), "name_to_handle_at": (303, 264), "open_by_handle_at": (304, 265),
    "perf_event_open": (298, 241), "personality": (135, 92), "pivot_root": (155, 41),
    "process_vm_readv": (310, 270), "process_vm_writev": (311, 271), "ptrace": (101, 117), "quotactl": (179, 60),
    "reboot": (169, 142), "request_key": (249, 218), "semget": (64, 190), "setns": (308, 268), "shmget": (29, 194),
    "socket": (41, 198), "swapoff": (168, 225), "swapon": (167, 224), "syslog": (103, 116), "umount2": (166, 39),
    "unshare": (272, 97), "userfaultfd": (323, 282),
}


def call_filter(machine: str | None = None) -> bytes:
    """The filter as BPF instructions; empty for a processor it has no numbers for.

    Denied calls fail with EPERM, clone3 with ENOSYS (its flags cannot be read here; the C library then uses clone).
    A program that uses another processor's call numbers is killed.
    """
    machine = machine or platform.machine()
    if machine not in ARCHITECTURES:
        return b""
    column = list(ARCHITECTURES).index(machine)
    code = [(LOAD, 0, 0, AT_ARCHITECTURE), (EQUAL, 1, 0, ARCHITECTURES[machine]), (RETURN, 0, 0, KILL),
            (LOAD, 0, 0, AT_NUMBER)]
    if machine == "x86_64":
        code += [(AT_LEAST, 0, 1, X32_CALLS), (RETURN, 0, 0, KILL)]
    refused = (RETURN, 0, 0, ERRNO | errno.EPERM)
    for number in sorted({*DENIED_EVERYWHERE, *(numbers[column] for numbers in DENIED.values())}):
        code += [(EQUAL, 0, 1, number), refused]
    code += [(EQUAL, 0, 1, CLONE3), (RETURN, 0, 0, ERRNO | errno.ENOSYS)]
    # A program may not outlive the launcher, so it may not change what its death means
    code += [(EQUAL, 0, 4, PRCTL[machine]), (LOAD, 0, 0, AT_FIRST_ARGUMENT), (EQUAL, 0, 1, PR_SET_PDEATHSIG), refused,
             (RETURN, 0, 0, ALLOW)]
    code += [(EQUAL, 0, 3, CLONE[machine]), (LOAD, 0, 0, AT_FIRST_ARGUMENT), (ANY_BIT, 0, 1, NEW_NAMESPACES), refused]
    code += [(RETURN, 0, 0, ALLOW)]
    return b"".join(struct.pack("HBBI", *instruction) for instruction in code)

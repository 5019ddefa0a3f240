"""Cores, memory, disk, GPUs, and whether ranks can talk to each other."""

import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from r1mega.cli.doctor.finding import Finding, Level

GIB = 2**30
_GLOO = """
import torch, torch.distributed as dist
dist.init_process_group("gloo", store=dist.TCPStore("localhost", 0, 1, True), rank=0, world_size=1)
ones = torch.ones(1)
dist.all_reduce(ones)
dist.destroy_process_group()
assert ones.item() == 1
"""


def check_machine(folder: Path) -> Iterator[Finding]:
    """What does not need torch. `folder`: where runs will be written."""
    yield Finding(Level.OK, "system", f"{platform.platform()}, {platform.machine()}")
    cores = num_cores()
    threads = os.environ.get("OMP_NUM_THREADS")
    note = f"OMP_NUM_THREADS={threads}" if threads else "OMP_NUM_THREADS not set: a run divides the cores by its ranks"
    too_many = threads is not None and threads.isdecimal() and int(threads) > cores
    yield Finding(Level.ABSENT if too_many else Level.OK, "cores",
                  f"{cores}; {note}" + ("; more threads than cores slow everything down" if too_many else ""))
    total, free = memory()
    if total:
        little = free < 6 * GIB
        yield Finding(Level.ABSENT if little else Level.OK, "memory",
                      f"{total / GIB:.0f} GiB, {free / GIB:.1f} free" + ("; the demo wants 6" if little else ""))
    disk = shutil.disk_usage(folder).free
    yield Finding(Level.ABSENT if disk < 5 * GIB else Level.OK, "disk",
                  f"{disk / GIB:.0f} GiB free under {folder}" + ("; checkpoints may not fit" if disk < 5 * GIB else ""))
    yield check_sandbox()


def check_torch() -> Iterator[Finding]:
    """What torch sees: GPUs, backends, Triton. Says so where torch itself does not import."""
    try:
        import torch
    except Exception as error:  # a broken installation fails in many ways, and none may stop the doctor
        yield Finding(Level.PROBLEM, "torch", f"does not import ({type(error).__name__}: {error}); run launch/setup")
        return
    if torch.cuda.is_available():
        for index in range(torch.cuda.device_count()):
            card = torch.cuda.get_device_properties(index)
            yield Finding(Level.OK, f"GPU {index}", f"{card.name}, {card.total_memory / GIB:.0f} GiB")
    else:
        built = f"torch is built for CUDA {torch.version.cuda}" if torch.version.cuda else "torch is a CPU build"
        yield Finding(Level.ABSENT, "GPU", f"none ({built}): everything runs on the CPU, which is for tiny models")
    nccl = torch.distributed.is_available() and torch.distributed.is_nccl_available()
    if torch.cuda.is_available() and not nccl:
        yield Finding(Level.PROBLEM, "NCCL", "this torch has none, so several GPUs cannot work together")
    yield _triton(torch.cuda.is_available())
    yield _gloo()


def check_sandbox() -> Finding:
    """Whether programs can be confined here, tried with one."""
    try:
        from r1mega.reward.code import NoSandbox, find_walls
    except ImportError as error:  # pydantic may be missing
        return Finding(Level.ABSENT, "code sandbox", f"cannot be tried: {error}; run launch/setup")
    try:
        return Finding(Level.OK, "code sandbox", find_walls().text)
    except NoSandbox as error:
        return Finding(Level.ABSENT, "code sandbox", f"none ({error}): code rewards are refused unless "
                                                     'reward.code.sandbox="none-i-accept-the-risk"; maths rewards '
                                                     "do not need it")


def num_cores() -> int:
    """Those this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def memory() -> tuple[int, int]:
    """Total and free bytes; 0, 0 where psutil is missing."""
    try:
        import psutil
    except ImportError:
        return 0, 0
    state = psutil.virtual_memory()
    return state.total, state.available


def _triton(has_gpu: bool) -> Finding:
    try:
        import triton
    except Exception as error:  # as for torch
        return Finding(Level.PROBLEM, "Triton", f"does not import ({type(error).__name__}), and Megatron-Core imports "
                                                "it always; it exists for Linux, use that or a container")
    if has_gpu:
        return Finding(Level.OK, "Triton", f'{triton.__version__}, for head.implementation="triton"')
    return Finding(Level.ABSENT, "Triton", f'{triton.__version__}, no GPU: head.implementation="triton" is refused; '
                                           '"reference", the default, is plain PyTorch')


def _gloo() -> Finding:
    """In a process of its own: a machine that cannot resolve its own name makes gloo hang or abort."""
    try:
        done = subprocess.run([sys.executable, "-c", _GLOO], capture_output=True, text=True, timeout=60)
    except subprocess.TimeoutExpired:
        return Finding(Level.PROBLEM, "gloo", "does not start within 60 s; set GLOO_SOCKET_IFNAME=lo for one machine")
    if done.returncode == 0:
        return Finding(Level.OK, "gloo", "starts: CPU ranks can talk to each other")
    last = (done.stderr.strip().splitlines() or ["no message"])[-1]
    return Finding(Level.PROBLEM, "gloo", f"does not start ({last[:120]}); set GLOO_SOCKET_IFNAME=lo for one machine")

"""What a record says of the machine it was made on. No names of hosts, users or folders."""

import platform
import subprocess
from pathlib import Path

import torch

from r1mega_kernels.benchmarks.peer import installed_version

PACKAGES = ("torch", "triton", "megatron-core", "fla-core", "liger-kernel", "quack-kernels", "verl",
            "nvidia-cutlass-dsl")
QUERY = "driver_version,clocks.sm,clocks.mem,clocks.max.sm,clocks.max.mem,power.limit,temperature.gpu"


def machine(device: torch.device) -> dict[str, str]:
    if device.type != "cuda":
        return {"device": f"{platform.machine()} CPU, {torch.get_num_threads()} threads"}
    properties = torch.cuda.get_device_properties(device)
    found = {"device": properties.name, "memory": f"{properties.total_memory / 2**30:.1f} GiB",
             "multiprocessors": str(properties.multi_processor_count)}
    answer = _output(["nvidia-smi", f"--query-gpu={QUERY}", "--format=csv,noheader"])
    if answer:
        values = answer.splitlines()[0].split(", ")
        found |= dict(zip(QUERY.split(","), values, strict=False))
    return found


def versions() -> dict[str, str]:
    found = {package: installed_version(package) or "not installed" for package in PACKAGES}
    commit = _output(["git", "-C", str(Path(__file__).parent), "describe", "--always", "--dirty", "--abbrev=12"])
    return {"python": platform.python_version(), "cuda": str(torch.version.cuda),
            "r1mega_kernels": commit or "unknown commit", **found}


def _output(command: list[str]) -> str | None:
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=20).stdout.strip() or None
    except (OSError, subprocess.SubprocessError):
        return None

"""environment.json: what a run ran on. Never the process environment, which holds secrets."""

import json
import os
import platform
import re
import subprocess
from collections.abc import Sequence
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

import r1mega
from r1mega.config import UserError
from r1mega.record.metric import ENVIRONMENT_FILE
from r1mega.training.atomic_file import replace_file

PACKAGES = ("r1mega", "torch", "megatron-core", "transformer-engine", "triton", "transformers", "tokenizers",
            "safetensors", "numpy", "datasets", "reasoning-gym", "math-verify", "pydantic")
SECRET = re.compile(r"(?i)^([^=]*(?:key|token|secret|password)[^=]*)=.*$")
TOKEN_COUNTS = re.compile(r"(?i)tokens|tokenizer")  # recipe keys that merely sound like a secret


def describe_environment(command: Sequence[str], world_size: int, devices: Sequence[str]) -> dict[str, Any]:
    """Versions, machine, command and start time.

    Args:
        command: as typed (sys.argv); values of arguments that look like secrets are blanked.
        world_size: ranks of the run.
        devices: one name a device kind, e.g. ("NVIDIA H100 80GB HBM3",) or ("cpu",).
    """
    return {
        "started": datetime.now(UTC).isoformat(timespec="seconds"),
        "command": [_without_secret(argument) for argument in command],
        "world_size": world_size,
        "devices": list(devices),
        "host": platform.node(),
        "platform": platform.platform(),
        "processor": _processor(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "memory_gib": _memory_gib(),
        "git_commit": _git_commit(),
        "python": platform.python_version(),
        "packages": {name: version for name in PACKAGES if (version := _version(name))},
    }


def write_environment(folder: Path, environment: dict[str, Any]) -> None:
    """Write environment.json; where a first start is already recorded, add this one to its `resumed` list."""
    path = folder / ENVIRONMENT_FILE
    if path.exists():
        try:
            first = json.loads(path.read_text())
            first.setdefault("resumed", []).append(environment)
        except (ValueError, AttributeError) as error:
            raise UserError(f"{path}: not a JSON object ({error}); remove the file and start again") from None
        environment = first
    replace_file(path, (json.dumps(environment, indent=2) + "\n").encode())


def _without_secret(argument: str) -> str:
    match = SECRET.match(argument)
    return f"{match[1]}=***" if match and not TOKEN_COUNTS.search(match[1]) else argument


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _processor() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    except OSError:
        pass  # not Linux
    return platform.processor() or platform.machine()


def _memory_gib() -> float | None:
    try:
        return round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1)
    except (ValueError, OSError, AttributeError):
        return None


def _git_commit() -> str | None:
    """The commit of the checkout this code runs from, "+changes" where edited; None if installed."""
    source = Path(r1mega.__file__)

    def git(*arguments: str) -> str:
        return subprocess.run(["git", "-C", str(source.parent), *arguments], check=True, capture_output=True,
                              text=True, timeout=10).stdout.strip()

    try:
        # An installed copy may lie inside another project's checkout.
        git("ls-files", "--error-unmatch", source.name)
        commit = git("rev-parse", "HEAD")
        return commit + ("+changes" if git("status", "--porcelain", "--untracked-files=no") else "")
    except (OSError, subprocess.SubprocessError):
        return None

"""Starts workers until the plan is done, and puts another in the place of one that is lost."""

import multiprocessing
import shlex
import sys
import time
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path

import torch

from r1mega_kernels.benchmarks.machine import machine, versions
from r1mega_kernels.benchmarks.plan import Plan
from r1mega_kernels.benchmarks.record import MEASURED, REHEARSAL, SCHEMA, Record
from r1mega_kernels.benchmarks.worker import GO_ON, work

GRACE_S = 30.0
"""For what is under way when the time is up."""
MOST_WORKERS = 12


def run(plan: Plan, path: Path, arguments: list[str]) -> Record:
    """The record of it, which is also at `path`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    new_record(plan, path, arguments).write()
    context = multiprocessing.get_context("spawn")
    deadline = Record.read(path).data["deadline"]
    for _ in range(MOST_WORKERS):
        process = context.Process(target=work, args=(plan, path))
        process.start()
        try:
            process.join(max(deadline - time.time(), 0) + GRACE_S)
            late = process.is_alive()
        finally:  # whatever ends this process ends the worker
            process.kill()
            process.join()
        if late:
            print("out of time: the worker was stopped", file=sys.stderr)
            break
        if process.exitcode == 0:
            break
        if process.exitcode > 0 and process.exitcode != GO_ON:
            raise RuntimeError(f"the benchmark itself failed (status {process.exitcode}); its message is above")
    return Record.read(path)


def new_record(plan: Plan, path: Path, arguments: list[str]) -> Record:
    device = torch.device(plan.device)
    return Record(path, {
        "schema": SCHEMA, "kind": MEASURED if device.type == "cuda" else REHEARSAL,
        "command": shlex.join(["python", "-m", "r1mega_kernels.benchmarks", *without_folder(arguments)]),
        "date": datetime.now(UTC).isoformat(timespec="seconds"), "machine": machine(device), "versions": versions(),
        "plan": asdict(plan), "deadline": time.time() + 60 * plan.minutes, "ceilings": {}, "rows": [],
    })


def without_folder(arguments: list[str]) -> list[str]:
    """The command line without --out: where a record lies says nothing about it, but much about somebody's disk."""
    kept, skip = [], False
    for argument in arguments:
        if not skip and argument != "--out" and not argument.startswith("--out="):
            kept.append(argument)
        skip = argument == "--out"
    return kept

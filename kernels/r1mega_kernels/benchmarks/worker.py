"""Works through a plan, in a process of its own, and puts every result into the record at once.

Before a peer runs, its row says that the process ended with it; if that comes true, because a kernel took the GPU down
or hung, the next worker finds the row and goes on behind it.
"""

import multiprocessing
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from r1mega_kernels.benchmarks.ceilings import copy_rate, gemm_floor_ms, gemm_times, memory_floor_ms
from r1mega_kernels.benchmarks.clock import Clock
from r1mega_kernels.benchmarks.collective import modelled_ms
from r1mega_kernels.benchmarks.exact import exact
from r1mega_kernels.benchmarks.measure import DeviceLost, Forward, measure, said, why_not
from r1mega_kernels.benchmarks.peer import Peer, installed_version
from r1mega_kernels.benchmarks.peers import peers_of
from r1mega_kernels.benchmarks.peers.group_of_one import leave_group
from r1mega_kernels.benchmarks.plan import Plan, Shape
from r1mega_kernels.benchmarks.problem import LinearProblem, LogitsProblem, Problem
from r1mega_kernels.benchmarks.record import Record
from r1mega_kernels.benchmarks.selfcheck import self_check

GO_ON = 75
"""Exit status of a worker that wants another to take its place."""
CLAIM = "failed: the process ended while it ran"
LATE = "skipped: out of time"


def work(plan: Plan, path: Path) -> None:
    """Ends the process with GO_ON if the GPU was lost on the way."""
    try:
        Worker(plan, Record.read(path)).run()
    except DeviceLost as error:
        print(f"a new process goes on: {error}", file=sys.stderr, flush=True)
        os._exit(GO_ON)  # destructors would only wait for the lost GPU
    leave_group()


class Worker:
    def __init__(self, plan: Plan, record: Record):
        self.plan, self.record = plan, record
        self.device = torch.device(plan.device)
        self.clock = Clock(self.device, plan.seconds)
        self.loaded: dict[tuple[str, str], Forward] = {}

    def run(self) -> None:
        self._ceilings()
        if "self_check" not in self.record.data:
            self._self_check()
        for shape in self.plan.shapes():
            todo = self._todo(shape)
            if not todo:
                continue
            if time.time() > self.record.data["deadline"]:
                for peer in todo:
                    self._put(shape, peer, {"status": LATE})
                continue
            try:
                self._shape(shape, todo)
            except DeviceLost:
                raise
            except Exception as error:  # inputs, floor or truth; the other shapes may still do
                for peer in self._todo(shape):
                    self._put(shape, peer, {"status": f"failed before it began: {said(error)}"})
            if self.device.type == "cuda":
                torch.cuda.empty_cache()

    def _ceilings(self) -> None:
        ceilings = self.record.data["ceilings"]
        if "copy_bytes_per_s" not in ceilings:
            ceilings["copy_bytes_per_s"] = copy_rate(self.clock)
            self.record.write()

    def _self_check(self) -> None:
        implementation = "triton" if self.device.type == "cuda" else "reference"
        try:
            found = self_check(self.device, implementation, self.plan.seed)
        except Exception as error:  # a check that cannot run has failed, and the times are still worth having
            found = [{"check": f"ran to its end: {said(error)}", "error": 1.0, "bound": 0.0, "passed": False}]
        self.record.data["self_check"] = found
        self.record.write()

    def _todo(self, shape: Shape) -> list[Peer]:
        """Who can run and has no row yet; who cannot gets one that says why."""
        todo = []
        for peer in peers_of(shape.operation, self.plan.budget_bytes):
            if not self.plan.takes_part(peer.name) or self.record.row(shape, peer.name) is not None:
                continue
            reason = why_not(peer, self.device)
            if reason is None:
                todo.append(peer)
            else:
                self._put(shape, peer, {"status": reason})
        return todo

    def _shape(self, shape: Shape, todo: list[Peer]) -> None:
        problem = self._problem(shape)
        floor_ms = self._floor(shape, problem)
        truth = exact(shape.operation, problem)
        for peer in todo:
            if time.time() > self.record.data["deadline"]:
                self._put(shape, peer, {"status": LATE})
                continue
            leave_with_parent()
            self._put(shape, peer, {"status": CLAIM})
            found = measure(peer, self._loader(peer), problem, truth, self.clock)
            modelled = None
            if peer.collectives is not None and self.plan.is_shard(shape.vocab):
                modelled = modelled_ms(peer.collectives, shape.tokens, self.plan)
            self._put(shape, peer, found | {"floor_ms": floor_ms, "modelled_collective_ms": modelled})
            print(line(self.record.row(shape, peer.name)), flush=True)

    def _problem(self, shape: Shape) -> Problem:
        if shape.operation == "linear":
            return LinearProblem(shape.tokens, shape.vocab, shape.hidden, self.device, self.plan.seed)
        return LogitsProblem(shape.tokens, shape.vocab, self.device, self.plan.seed)

    def _floor(self, shape: Shape, problem: Problem) -> dict[str, float]:
        ceilings = self.record.data["ceilings"]
        if isinstance(problem, LogitsProblem):
            return memory_floor_ms(shape.tokens, shape.vocab, ceilings["copy_bytes_per_s"])
        gemms = ceilings.setdefault("gemm_ms", {})
        name = f"{shape.tokens} x {shape.vocab} x {shape.hidden}"
        if name not in gemms:
            gemms[name] = gemm_times(problem, self.clock)
        return gemm_floor_ms(gemms[name])

    def _loader(self, peer: Peer) -> Callable[[], Forward]:
        def load() -> Forward:
            key = peer.operation, peer.name
            if key not in self.loaded:
                self.loaded[key] = peer.load(self.device)
            return self.loaded[key]
        return load

    def _put(self, shape: Shape, peer: Peer, found: dict[str, Any]) -> None:
        version = self.record.data["versions"]["r1mega_kernels"] if peer.ours else installed_version(peer.package)
        self.record.put({
            **shape._asdict(), "peer": peer.name, "package": peer.package, "version": version,
            "computes": peer.computes, "ours": peer.ours, "gradient_in_forward": peer.gradient_in_forward, **found})


def leave_with_parent() -> None:
    """A driver that was killed outright leaves no worker behind on the GPU."""
    parent = multiprocessing.parent_process()
    if parent is not None and not parent.is_alive():
        raise SystemExit("the process that started this one is gone")


def line(row: dict[str, Any]) -> str:
    """For who watches."""
    name = f"{row['operation']} T={row['tokens']} V={row['vocab']} {row['peer']}"
    if row["status"] != "ok":
        return f"{name}: {row['status']}"
    times = ", ".join(f"{part} {row[part]['median_ms']:.3f}" for part in ("forward", "backward", "both"))
    return f"{name}: {times} ms"

"""One peer on one problem: checked against the truth, then timed."""

import gc
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from r1mega_kernels.benchmarks.clock import Clock
from r1mega_kernels.benchmarks.exact import Exact, beyond_gate, errors
from r1mega_kernels.benchmarks.peer import Peer, Result, installed_version
from r1mega_kernels.benchmarks.problem import Problem

Forward = Callable[[Problem], Result]


class DeviceLost(RuntimeError):
    """Nothing runs any more on the GPU in this process."""


def why_not(peer: Peer, device: torch.device) -> str | None:
    """Why a peer cannot even be tried here; None if it can."""
    if not peer.ours and installed_version(peer.package) is None:
        return "not installed"
    if peer.needs_gpu and device.type != "cuda":
        return "not run: needs a GPU"
    return None


def measure(peer: Peer, load: Callable[[], Forward], problem: Problem, truth: Exact, clock: Clock) -> dict[str, Any]:
    """What to add to the row: a status, and if it is "ok" the numbers. DeviceLost if the GPU went with it."""
    try:
        found = _measure(peer, load(), problem, truth, clock)
    except torch.OutOfMemoryError:
        found = {"status": "failed: out of memory"}
    except Exception as error:  # whatever another library raises is its result, and the others go on
        found = {"status": f"failed: {said(error)}"}
    gc.collect()
    if problem.device.type == "cuda":
        try:
            torch.cuda.synchronize()
            torch.cuda.empty_cache()
        except RuntimeError as error:
            raise DeviceLost(said(error)) from error
    return found


def said(error: Exception) -> str:
    first = next((line for line in str(error).splitlines() if line.strip()), "")
    return f"{type(error).__name__}: {first}"[:200]


def _measure(peer: Peer, forward: Forward, problem: Problem, truth: Exact, clock: Clock) -> dict[str, Any]:
    def both() -> tuple[Result, tuple[Tensor, ...]]:
        result = forward(problem)
        return result, result.gradients()

    def prepare() -> None:
        if peer.overwrites:
            problem.restore()

    def prepare_backward() -> Result:
        prepare()
        return forward(problem)

    problem.restore()  # the one before may have written over it
    first_ms, (result, gradients) = clock.first_ms(both)
    found = errors(truth, result, gradients)
    del result, gradients
    wrong = beyond_gate(peer.operation, found)
    if wrong is not None:
        return {"status": f"wrong: {wrong}", "errors": found}
    row: dict[str, Any] = {"status": "ok", "errors": found, "first_call_ms": first_ms}
    row["forward"] = clock.time(prepare, lambda _: forward(problem))._asdict()
    row["backward"] = clock.time(prepare_backward, lambda result: result.gradients())._asdict()
    row["both"] = clock.time(prepare, lambda _: both())._asdict()
    return row | _memory(prepare, both, lambda: forward(problem), problem, clock)


def _memory(
    prepare: Callable[[], None], both: Callable[[], tuple[Result, tuple[Tensor, ...]]], forward: Callable[[], Result],
    problem: Problem, clock: Clock,
) -> dict[str, int | None]:
    """Beside the inputs, and for the whole also beside the gradients that are handed out."""
    prepare()
    forward_bytes, kept = clock.peak_bytes(forward)
    del kept
    prepare()
    peak_bytes, kept = clock.peak_bytes(both)
    inputs = {value.untyped_storage().data_ptr() for value in vars(problem).values() if isinstance(value, Tensor)}
    results = {value.untyped_storage().data_ptr(): value.untyped_storage().nbytes() for value in kept[1]}
    result_bytes = sum(size for pointer, size in results.items() if pointer not in inputs)
    beside = None if peak_bytes is None else peak_bytes - result_bytes
    return {"forward_peak_bytes": forward_bytes, "result_bytes": result_bytes, "peak_bytes": beside}

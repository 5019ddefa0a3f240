"""How long something takes, and how much memory it takes at most.

On a GPU every repetition starts with a cold L2, by events on its stream. The buffer that is written to make it cold is
large enough that Python has queued the work before the GPU is done with it: what is timed is the GPU, not Python.
"""

import statistics
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import torch

FLUSH_BYTES = 1 << 30
MIN_REPETITIONS, MAX_REPETITIONS = 3, 30


class Timing(NamedTuple):
    median_ms: float
    p10_ms: float
    p90_ms: float
    repetitions: int


class Clock:
    """seconds: how long to repeat one measurement, about."""

    def __init__(self, device: torch.device, seconds: float):
        self.device, self.seconds = device, seconds
        self.flush = torch.empty(FLUSH_BYTES, dtype=torch.int8, device=device) if device.type == "cuda" else None

    def time(self, prepare: Callable[[], Any], run: Callable[[Any], Any]) -> Timing:
        """`run(prepare())` again and again; only `run` is timed, and what it returns lives until it has ended."""
        times_ms: list[float] = []
        end = time.perf_counter() + self.seconds
        while len(times_ms) < MIN_REPETITIONS or (time.perf_counter() < end and len(times_ms) < MAX_REPETITIONS):
            times_ms.append(self._once(prepare, run))
        low, high = quantile(times_ms, 0.1), quantile(times_ms, 0.9)
        return Timing(statistics.median(times_ms), low, high, len(times_ms))

    def _once(self, prepare: Callable[[], Any], run: Callable[[Any], Any]) -> float:
        prepared = prepare()
        if self.flush is None:
            begin = time.perf_counter()
            kept = run(prepared)
            took = (time.perf_counter() - begin) * 1e3
            del kept
            return took
        torch.cuda.synchronize(self.device)
        self.flush.zero_()
        first, last = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        first.record()
        kept = run(prepared)
        last.record()
        last.synchronize()
        del kept
        return first.elapsed_time(last)

    def first_ms(self, run: Callable[[], Any]) -> tuple[float, Any]:
        """Wall time of a first call, compilation and all, and what it returned."""
        begin = time.perf_counter()
        kept = run()
        if self.flush is not None:
            torch.cuda.synchronize(self.device)
        return (time.perf_counter() - begin) * 1e3, kept

    def peak_bytes(self, run: Callable[[], Any]) -> tuple[int | None, Any]:
        """The most that `run` had allocated at once beside what was allocated before; None on a CPU."""
        if self.flush is None:
            return None, run()
        torch.cuda.synchronize(self.device)
        before = torch.cuda.memory_allocated(self.device)
        torch.cuda.reset_peak_memory_stats(self.device)
        kept = run()
        torch.cuda.synchronize(self.device)
        return torch.cuda.max_memory_allocated(self.device) - before, kept


def quantile(values: list[float], part: float) -> float:
    """The value that stands at this part of the sorted list, to the nearest."""
    return sorted(values)[round(part * (len(values) - 1))]

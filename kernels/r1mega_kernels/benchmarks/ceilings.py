"""What this machine can do at best, measured in the same run: the floors of all that is timed.

    memory   a large device copy: bytes read and written, a second
    GEMM     torch.mm in bf16 of the very shapes that a fused linear needs
"""

import torch

from r1mega_kernels.benchmarks.clock import Clock
from r1mega_kernels.benchmarks.problem import LinearProblem

COPY_BYTES = {"cuda": 2 << 30, "cpu": 1 << 24}


def copy_rate(clock: Clock) -> float:
    """Bytes read and written, a second."""
    size = COPY_BYTES[clock.device.type]
    source, target = (torch.zeros(size, dtype=torch.int8, device=clock.device) for _ in range(2))
    target.copy_(source)
    timing = clock.time(lambda: None, lambda _: target.copy_(source))
    return 2 * size / (timing.median_ms / 1e3)


def gemm_times(problem: LinearProblem, clock: Clock) -> dict[str, float]:
    """Milliseconds of the three products of a head: logits, d hidden, d weight; 2 T H V operations each."""
    hidden_TH, weight_VH = problem.hidden_TH.detach(), problem.weight_VH.detach()
    logits_TV = torch.mm(hidden_TH, weight_VH.T)
    products = {
        "logits": lambda _: torch.mm(hidden_TH, weight_VH.T, out=logits_TV),
        "d_hidden": lambda _: torch.mm(logits_TV, weight_VH),
        "d_weight": lambda _: torch.mm(logits_TV.T, hidden_TH),
    }
    times = {}
    for name, product in products.items():
        product(None)
        times[name] = clock.time(lambda: None, product).median_ms
    return times


def memory_floor_ms(tokens: int, vocab: int, rate: float) -> dict[str, float]:
    """bf16 logits: read once forward, read and written once backward."""
    once_ms = tokens * vocab * 2 / rate * 1e3
    return {"forward": once_ms, "backward": 2 * once_ms, "both": 3 * once_ms}


def gemm_floor_ms(times: dict[str, float]) -> dict[str, float]:
    forward, backward = times["logits"], times["d_hidden"] + times["d_weight"]
    return {"forward": forward, "backward": backward, "both": forward + backward}

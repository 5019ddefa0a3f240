"""What the messages between tensor-parallel ranks would cost: a model, not a measurement."""

from r1mega_kernels.benchmarks.peer import Collective
from r1mega_kernels.benchmarks.plan import Plan


def modelled_ms(collectives: tuple[Collective, ...], tokens: int, plan: Plan) -> float:
    """Latency plus bytes over bandwidth, for each message: a ring moves (n - 1) of n parts around, twice to reduce."""
    total = 0.0
    for kind, bytes_a_token in collectives:
        whole = bytes_a_token * tokens * (plan.tp if kind == "all-gather" else 2)
        moved = whole * (plan.tp - 1) / plan.tp
        total += plan.latency_us / 1e3 + moved / (plan.gigabytes_per_s * 1e9) * 1e3
    return total

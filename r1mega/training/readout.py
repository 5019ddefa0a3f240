"""How metrics read as text: numbers with their units, how long is left, a curve in one line."""

import time
from collections.abc import Mapping, Sequence
from typing import Any

BARS = "▁▂▃▄▅▆▇█"
ASCII_BARS = "_.-=+*#@"

FIGURES: Mapping[str, tuple[str, str]] = {  # metric: label, kind
    "heldout_pass_at_1": ("held-out pass@1", "percent"),
    "reward": ("reward", "number"),
    "pass_rate": ("pass rate", "percent"),
    "response_tokens": ("response tokens", "count"),
    "truncated": ("truncated", "percent"),
    "kl": ("KL", "small"),
    "entropy": ("entropy", "number"),
    "loss": ("loss", "small"),
    "mtp_loss": ("MTP loss", "number"),
    "grad_norm": ("grad norm", "number"),
    "lr": ("lr", "small"),
    "logprob_gap": ("log-prob gap", "small"),
    "expert_imbalance": ("expert imbalance", "number"),
    "tokens_per_s": ("tokens/s", "count"),
}


def number(value: float | None, kind: str) -> str:
    """`value` as text of the kind percent, count, number (3 decimals) or small (as loss and KL need)."""
    if value is None:
        return "n/a"
    match kind:
        case "percent":
            return f"{100 * value:.1f}%"
        case "count":
            return f"{value:,.0f}"
        case "small" if value and not 1e-3 <= abs(value) < 1e4:
            return f"{value:.1e}"
        case "small":
            return f"{value:.4f}"
    return f"{value:.3f}"


def figure(metrics: Mapping[str, Any], key: str) -> str:
    return number(metrics[key], FIGURES[key][1])


def duration(seconds: float) -> str:
    """e.g. 8.3 s, 4m 05s, 3h 12m, 2d 4h."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes}m {rest:02d}s"
    hours, minutes = divmod(minutes, 60)
    return f"{hours}h {minutes:02d}m" if hours < 48 else f"{hours // 24}d {hours % 24}h"


def sparkline(values: Sequence[float], width: int, bars: str = BARS) -> str:
    """At most `width` characters; longer histories are averaged, lowest value at the bottom."""
    if not values:
        return ""
    count = min(width, len(values))
    edges = [round(i * len(values) / count) for i in range(count + 1)]
    means = [sum(values[a:b]) / (b - a) for a, b in zip(edges, edges[1:], strict=False)]
    low, high = min(means), max(means)
    if high == low:
        return bars[0] * count
    return "".join(bars[round((mean - low) / (high - low) * (len(bars) - 1))] for mean in means)


def visible(text: str) -> str:
    """`text` without control characters, which could steer a terminal; newlines stay."""
    return "".join(c if c.isprintable() or c == "\n" else "\N{MIDDLE DOT}" for c in text.expandtabs(4))


class Pace:
    """How long the remaining steps take, judged by the steps this process has done."""

    def __init__(self, total_steps: int) -> None:
        self.total_steps = total_steps
        self.step = 0
        self._first: tuple[int, float] | None = None  # step and time; start-up is left out
        self._last: tuple[int, float] = (0, 0.0)

    def advance(self, step: int) -> None:
        self.step = step
        self._last = (step, time.monotonic())
        self._first = self._first or self._last

    @property
    def remaining(self) -> str:
        """e.g. "4m 05s"; empty while it cannot be known."""
        if self._first is None or self._last[0] <= self._first[0]:
            return ""
        a_step = (self._last[1] - self._first[1]) / (self._last[0] - self._first[0])
        since = time.monotonic() - self._last[1]
        return duration(max(a_step * (self.total_steps - self.step) - since, 0.0))

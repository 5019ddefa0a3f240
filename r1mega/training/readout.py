"""What both views of the console need: a curve in one line, text made safe to print, the time left."""

import time
from collections.abc import Sequence

from r1mega.record.metric_text import duration

BARS = "▁▂▃▄▅▆▇█"
ASCII_BARS = "_.-=+*#@"


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

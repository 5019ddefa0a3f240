"""One aligned line a step, for log files."""

import time
from collections.abc import Mapping
from typing import Any

from r1mega.record.metric import METRICS
from r1mega.record.metric_text import duration, number
from r1mega.training.readout import Pace, visible
from r1mega.training.safe_stream import SafeStream

HEARTBEAT_S = 60.0  # a phase that takes longer than this says so
COLUMNS = {  # metric: heading, width
    "reward": ("reward", 6), "pass_rate": ("pass", 6), "response_tokens": ("length", 6),
    "truncated": ("cut", 6), "loss": ("loss", 8), "mtp_loss": ("mtp", 6), "grad_norm": ("grad", 6),
    "kl": ("kl", 7), "entropy": ("entropy", 6), "tokens_per_s": ("tokens/s", 7),
}


class PlainView:
    """Steps, evaluations, messages and a heartbeat for long phases, each one line with the time of day."""

    def __init__(self, stream: SafeStream, total_steps: int, title: str) -> None:
        self._stream = stream
        self._title = title
        self._pace = Pace(total_steps)
        self._phase_name = ""
        self._phase_began = self._spoke = time.monotonic()

    def start(self) -> None:
        self._print(f"{self._title}, {self._pace.total_steps} steps")

    def stop(self) -> None:
        """Nothing to put back."""

    def step(self, metrics: Mapping[str, Any]) -> None:
        self._pace.advance(metrics["step"])
        at = f"step {self._progress(metrics['step'])}"
        cells = [f"{name} {number(metrics[key], METRICS[key].kind):>{width}}"
                 for key, (name, width) in COLUMNS.items() if key in metrics]
        if cells:
            if "wall_s" in metrics:
                cells.append(f"{duration(metrics['wall_s']):>7}")
            if self._pace.remaining:
                cells.append(f"left {self._pace.remaining}")
            self._print("  ".join([at, *cells]))
        if metrics.get("heldout_pass_at_1") is not None:
            self._print(f"{at}  {heldout(metrics)}")

    def phase(self, name: str, done: int, total: int, unit: str) -> None:
        now = time.monotonic()
        if name != self._phase_name:
            self._phase_name, self._phase_began = name, now
        if now - max(self._phase_began, self._spoke) > HEARTBEAT_S:
            took = duration(now - self._phase_began)
            self._print(f"step {self._progress(self._pace.step + 1)}  {name} {done}/{total} {unit}".rstrip()
                        + f" after {took}")

    def sample(self, question: str, text: str, reward: float) -> None:
        """Completions are in samples.jsonl; a log of lines stays a log of lines."""

    def message(self, text: str) -> None:
        self._print(text)

    def _progress(self, step: int) -> str:
        total = str(self._pace.total_steps)
        return f"{step:>{len(total)}}/{total}"

    def _print(self, text: str) -> None:
        self._spoke = time.monotonic()
        self._stream.write(f"{time.strftime('%H:%M:%S')}  {visible(text)}\n")


def heldout(metrics: Mapping[str, Any]) -> str:
    """An evaluation in one line: `held-out pass@1 62.1% (56.0-67.8)  256 problems x 4`."""
    text = f"held-out pass@1 {number(metrics['heldout_pass_at_1'], 'percent')}"
    low, high = metrics.get("heldout_pass_at_1_low"), metrics.get("heldout_pass_at_1_high")
    if low is not None and high is not None:
        text += f" ({100 * low:.1f}-{100 * high:.1f})"
    if "heldout_problems" in metrics:
        text += f"  {metrics['heldout_problems']} problems x {metrics.get('heldout_samples', 1)}"
    return text

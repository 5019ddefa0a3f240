"""What a person sees of a run. Never the reason for a run to fail: a view that breaks is dropped."""

import contextlib
import os
import sys
from collections.abc import Mapping
from typing import Any, Literal, TextIO

from r1mega.training.live_view import LiveView
from r1mega.training.plain_view import PlainView
from r1mega.training.safe_stream import SafeStream


class Console:
    """A live view on a terminal, plain lines elsewhere. A context manager, for rank 0."""

    def __init__(self, mode: Literal["auto", "live", "plain", "off"], total_steps: int, title: str,
                 stream: TextIO | None = None) -> None:
        """`auto` is live where `stream` (by default standard output) is a terminal that can redraw."""
        self._stream = SafeStream(stream if stream is not None else sys.stdout)
        self._total_steps, self._title = total_steps, title
        if mode == "auto":
            mode = "live" if _can_redraw(self._stream) else "plain"
        self._view: LiveView | PlainView | None = None
        if mode != "off":
            self._view = (LiveView if mode == "live" else PlainView)(self._stream, total_steps, title)

    def step(self, metrics: Mapping[str, Any]) -> None:
        """Show one record of metrics.jsonl: a training step, an evaluation, or both."""
        self._show("step", metrics)

    def phase(self, name: str, done: int, total: int, unit: str = "") -> None:
        """Show how far the current phase is, e.g. ("rollout", 312, 512, "sequences"). Cheap."""
        self._show("phase", name, done, total, unit)

    def sample(self, question: str, text: str, reward: float) -> None:
        """Show a completion of late (the live view does)."""
        self._show("sample", question, text, reward)

    def message(self, text: str) -> None:
        """Print a line that stays."""
        self._show("message", text)

    def __enter__(self) -> "Console":
        self._show("start")
        return self

    def __exit__(self, *_: object) -> None:
        self._show("stop")

    def _show(self, method: str, *arguments: Any) -> None:
        if self._view is None:
            return
        try:
            getattr(self._view, method)(*arguments)
        except Exception as error:  # whatever a terminal or rich comes up with, hours of training outweigh it
            self._fall_back(error)

    def _fall_back(self, error: Exception) -> None:
        broken, self._view = self._view, None
        with contextlib.suppress(Exception):
            broken.stop()
        if isinstance(broken, LiveView):
            self._view = PlainView(self._stream, self._total_steps, self._title)
        reason = f"{type(error).__name__}: {error}"
        self._stream.write(f"the {type(broken).__name__} stopped ({reason}); the run goes on\n")


def _can_redraw(stream: SafeStream) -> bool:
    return stream.isatty() and os.environ.get("TERM", "").lower() not in ("", "dumb", "unknown")

"""A view that redraws itself in the terminal: progress, phase, figures with their curves, a sample."""

import time
from collections.abc import Mapping
from typing import Any

from rich.console import Console as RichConsole
from rich.console import Group, RenderableType
from rich.live import Live
from rich.markup import escape
from rich.panel import Panel
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from r1mega.record.metric import METRICS
from r1mega.record.metric_text import duration, number
from r1mega.training.plain_view import heldout
from r1mega.training.readout import ASCII_BARS, BARS, Pace, sparkline, visible
from r1mega.training.safe_stream import SafeStream

REDRAWS_PER_S = 2  # each costs milliseconds of the process that trains
SIDE_BY_SIDE = 100  # columns from which the sample stands beside the figures
SAMPLE_LINES = 10
WIDEST = 140
PHASE_BAR = 16
CHARACTERS_KEPT = 4000
SHOWN = ("heldout_pass_at_1", "reward", "pass_rate", "response_tokens", "kl", "loss", "mtp_loss",
         "tokens_per_s")


class LiveView:
    """See `Console` for what each method shows."""

    def __init__(self, stream: SafeStream, total_steps: int, title: str) -> None:
        self._rich = RichConsole(file=stream, force_terminal=True, highlight=False)
        self._unicode = stream.encoding.lower().replace("-", "").startswith("utf")
        self._title = visible(title)
        self._pace = Pace(total_steps)
        self._began = time.monotonic()
        self._history: dict[str, list[float]] = {key: [] for key in SHOWN}
        self._phase: tuple[str, int, int, str] | None = None
        self._sample: tuple[str, str, float] | None = None
        self._live = Live(get_renderable=self._render, console=self._rich, refresh_per_second=REDRAWS_PER_S)

    def start(self) -> None:
        self._live.start()

    def stop(self) -> None:
        self._phase = None
        self._live.stop()

    def step(self, metrics: Mapping[str, Any]) -> None:
        self._pace.advance(metrics["step"])
        self._phase = None
        for key, values in self._history.items():
            if metrics.get(key) is not None:
                values.append(metrics[key])
        if metrics.get("heldout_pass_at_1") is not None:
            self.message(f"step {metrics['step']}  {heldout(metrics)}")

    def phase(self, name: str, done: int, total: int, unit: str) -> None:
        self._phase = (name, done, total, unit)

    def sample(self, question: str, text: str, reward: float) -> None:
        self._sample = (visible(question[:CHARACTERS_KEPT]), visible(text[:CHARACTERS_KEPT]), reward)

    def message(self, text: str) -> None:
        self._rich.print(escape(visible(text)))

    def _render(self) -> RenderableType:
        try:
            return self._panel()
        except Exception as error:  # drawn from rich's own thread, which would die with a traceback
            return Text(f"{self._title}: step {self._pace.step}/{self._pace.total_steps} (view: {error})")

    def _panel(self) -> Panel:
        width = min(self._rich.width, WIDEST)
        beside = width >= SIDE_BY_SIDE and self._sample is not None
        figures = self._figures(12 if width < 70 else 24)
        body: RenderableType = figures
        if self._sample is not None:
            if beside:
                body = Table.grid(expand=True, padding=(0, 2))
                body.add_column(ratio=2)
                body.add_column(ratio=3)
                body.add_row(figures, self._sample_text(width * 3 // 5 - 6))
            else:
                body = Group(figures, Text(), self._sample_text(width - 6))
        return Panel(Group(self._progress(), self._phase_line(), Text(), body), title=escape(self._title),
                     title_align="left", border_style="cyan", padding=(0, 1), width=width)

    def _progress(self) -> Table:
        pace = self._pace
        row = Table.grid(expand=True, padding=(0, 1))
        row.add_column(no_wrap=True)
        row.add_column(ratio=1)
        row.add_column(no_wrap=True, justify="right")
        times = duration(time.monotonic() - self._began)
        if pace.remaining and pace.step < pace.total_steps:
            times += f", {pace.remaining} left"
        row.add_row(f"[bold]step {pace.step}/{pace.total_steps}[/]",
                    ProgressBar(total=max(pace.total_steps, 1), completed=pace.step), f"[dim]{times}[/]")
        return row

    def _phase_line(self) -> RenderableType:
        if self._phase is None:
            return Text()
        name, done, total, unit = self._phase
        row = Table.grid(padding=(0, 1))
        row.add_column(no_wrap=True, style="cyan")
        row.add_column(width=PHASE_BAR)
        row.add_column(no_wrap=True, overflow="ellipsis")
        row.add_row(name, ProgressBar(total=max(total, 1), completed=done), f"{done}/{total} {unit}")
        return row

    def _figures(self, curve_width: int) -> RenderableType:
        table = Table.grid(padding=(0, 2))
        table.add_column(style="dim", no_wrap=True)
        table.add_column(justify="right", no_wrap=True, style="bold")
        table.add_column(no_wrap=True, style="cyan")
        for key, values in self._history.items():
            if values:
                curve = sparkline(values, curve_width, BARS if self._unicode else ASCII_BARS)
                table.add_row(METRICS[key].label, number(values[-1], METRICS[key].kind), curve)
        return table if table.row_count else Text("waiting for the first step", style="dim")

    def _sample_text(self, width: int) -> Text:
        """The latest completion, cut in the middle to SAMPLE_LINES lines: its start and its answer count."""
        question, text, reward = self._sample
        colour = "green" if reward > 0 else "red"
        header = Text.assemble(("sample", "dim"), "  reward ", (f"{reward:.2f}", colour))
        lines = [line for part, style in ((question.strip(), "italic dim"), (text.strip(), ""))
                 for line in Text(part, style).wrap(self._rich, max(width, 20))]
        if len(lines) > SAMPLE_LINES:
            half = SAMPLE_LINES // 2
            lines = [*lines[:half], Text("[...]", style="dim"), *lines[-half:]]
        return Text("\n").join([header, *lines])

"""What the terminal shows, and that nothing a terminal does can end a run."""

import io
import re
import subprocess
import sys

import pytest

from r1mega.record.metric_text import duration, number
from r1mega.training import plain_view
from r1mega.training.console import Console
from r1mega.training.readout import Pace, sparkline

STEP = {"step": 7, "stage": "rl", "wall_s": 3.25, "reward": 0.5125, "pass_rate": 0.312,
        "response_tokens": 84.4, "truncated": 0.031,
        "loss": -0.0012, "grad_norm": 0.31, "kl": 1.2e-4, "entropy": 1.25, "tokens_per_s": 1234.0}
EVALUATION = {"step": 7, "stage": "rl", "heldout_pass_at_1": 0.246, "heldout_pass_at_1_low": 0.197,
              "heldout_pass_at_1_high": 0.302, "heldout_problems": 256, "heldout_samples": 4}


class Terminal(io.StringIO):
    """A terminal of a given encoding that keeps what was written."""

    def __init__(self, encoding: str = "utf-8") -> None:
        super().__init__()
        self._encoding = encoding

    @property
    def encoding(self) -> str:
        return self._encoding

    def isatty(self) -> bool:
        return True

    def write(self, text: str) -> int:
        text.encode(self._encoding)  # as a real one would, with an error
        return super().write(text)


class Broken(io.StringIO):
    def write(self, text: str) -> int:
        raise BrokenPipeError


def plain_lines(*records, total: int = 400) -> list[str]:
    stream = io.StringIO()
    with Console("plain", total, "tiny-zero", stream) as console:
        for record in records:
            console.step(record)
    return [line[10:] for line in stream.getvalue().splitlines()]  # without the time of day


def drawn(width: int, monkeypatch, terminal: Terminal | None = None) -> str:
    """The last frame of a live view, escape sequences removed."""
    monkeypatch.setenv("COLUMNS", str(width))
    monkeypatch.setenv("LINES", "50")
    terminal = terminal or Terminal()
    with Console("live", 400, "tiny-zero, 2 ranks", terminal) as console:
        for step in range(1, 31):
            console.step(STEP | {"step": step, "reward": step / 30})
        console.step(EVALUATION | {"step": 30})
        console.sample("What is [4] + 5?", "<think>\x1b[2J4 + 5 is 9.</think>\n<answer>9</answer>", 2.0)
        console.phase("rollout", 312, 512, "sequences")
        console._view._live.refresh()
    return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", terminal.getvalue())


def test_a_plain_step_is_one_line_of_figures():
    assert plain_lines(STEP)[1] == (
        "step   7/400  reward  0.512  pass  31.2%  length     84  cut   3.1%  loss  -0.0012  grad  0.310  "
        "kl 1.2e-04  entropy  1.250  tokens/s   1,234    3.2 s")


def test_a_plain_evaluation_is_one_line_with_its_interval():
    assert plain_lines(EVALUATION)[1:] == [
        "step   7/400  held-out pass@1 24.6% (19.7-30.2)  256 problems x 4"]


def test_plain_columns_stay_under_each_other():
    first, second = plain_lines(STEP, STEP | {"step": 123, "reward": -1.5, "pass_rate": 1.0, "kl": 0.0})[1:]
    assert [first.index(word) for word in ("reward", "pass", "kl", "tokens/s")] == [
        second.index(word) for word in ("reward", "pass", "kl", "tokens/s")]


def test_a_missing_number_reads_as_such():
    assert "loss      n/a" in plain_lines(STEP | {"loss": None})[1]


def test_a_long_phase_shows_that_it_is_alive(monkeypatch):
    now = [1000.0]
    monkeypatch.setattr(plain_view.time, "monotonic", lambda: now[0])
    stream = io.StringIO()
    with Console("plain", 10, "t", stream) as console:
        for done in range(0, 200):
            now[0] += 1.0
            console.phase("rollout", done, 200, "sequences")
    beats = [line[10:] for line in stream.getvalue().splitlines()[1:]]
    assert beats == ["step  1/10  rollout 61/200 sequences after 1m 01s",
                     "step  1/10  rollout 122/200 sequences after 2m 02s",
                     "step  1/10  rollout 183/200 sequences after 3m 03s"]


@pytest.mark.parametrize("width", [20, 60, 200])
def test_the_live_view_fits_any_width(width, monkeypatch):
    frame = drawn(width, monkeypatch)
    assert max(len(line) for line in frame.replace("\r", "\n").splitlines()) <= width
    assert "tiny-zero" in frame


@pytest.mark.parametrize("width", [60, 200])
def test_the_live_view_shows_progress_phase_figures_curves_and_a_sample(width, monkeypatch):
    frame = drawn(width, monkeypatch)
    for text in ("step 30/400", "rollout", "312/512 sequences", "held-out pass@1", "24.6%", "pass rate",
                 "31.2%", "tokens/s", "1,234", "What is [4] + 5?", "<answer>9</answer>", "reward 2.00"):
        assert text in frame, text
    assert re.search(r"reward +1\.000 +▁[▁-█]+█", frame)
    assert "·[2J4 + 5" in frame  # the completion's own escape sequence is shown, not obeyed


def test_a_terminal_without_unicode_gets_ascii(monkeypatch):
    terminal = Terminal("ascii")
    frame = drawn(80, monkeypatch, terminal)
    assert frame.isascii()
    for text in ("+- tiny-zero, 2 ranks", "?[2J4 + 5", "<answer>9</answer>", "312/512 sequences"):
        assert text in frame, text


@pytest.mark.parametrize("mode", ["live", "plain"])
def test_a_closed_pipe_does_not_stop_the_run(mode):
    with Console(mode, 10, "t", Broken()) as console:
        for step in range(3):
            console.step(STEP | {"step": step})
            console.phase("train", 1, 4)
            console.message("saved")


def test_a_reader_that_goes_away_leaves_the_exit_status_at_zero():
    script = ("import sys, time\nfrom r1mega.training.console import Console\n"
              "with Console('plain', 5000, 't') as console:\n"
              "    for step in range(5000): console.step({'step': step, 'stage': 'rl', 'reward': 1.0})\n"
              "print('after')\nsys.stderr.write('reached the end')\n")
    run = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                           text=True)
    run.stdout.readline()
    run.stdout.close()
    assert run.stderr.read() == "reached the end"
    assert run.wait(60) == 0


def test_a_view_that_fails_gives_way_to_plain_lines(monkeypatch):
    terminal = Terminal()
    with Console("live", 10, "t", terminal) as console:
        console.step({"step": 1, "reward": "not a number"})  # drawn from a thread of its own: must not end it
        console.step({})
        console.step(STEP)
    assert "the LiveView stopped (KeyError" in terminal.getvalue()
    assert "reward  0.512" in terminal.getvalue()


def test_auto_is_live_on_a_terminal_and_plain_elsewhere(monkeypatch):
    monkeypatch.setenv("TERM", "xterm-256color")
    for stream, moves_cursor in ((Terminal(), True), (io.StringIO(), False)):
        with Console("auto", 10, "t", stream) as console:
            console.step(STEP)
        assert ("\x1b[" in stream.getvalue()) is moves_cursor
    monkeypatch.setenv("TERM", "dumb")
    stream = Terminal()
    with Console("auto", 10, "t", stream) as console:
        console.step(STEP)
    assert "\x1b[" not in stream.getvalue()


def test_off_prints_nothing(capsys):
    with Console("off", 10, "t") as console:
        console.step(STEP)
        console.message("x")
    assert capsys.readouterr().out == ""


def test_numbers_read_with_their_units():
    assert [number(0.3125, "percent"), number(1234.4, "count"), number(2.0, "number")] == [
        "31.2%", "1,234", "2.000"]
    assert [number(value, "small") for value in (3e-6, 0.0, -0.0123)] == ["3.0e-06", "0.0000", "-0.0123"]
    assert [duration(seconds) for seconds in (8.31, 59.9, 245, 11520, 2e5)] == [
        "8.3 s", "59.9 s", "4m 05s", "3h 12m", "2d 7h"]


def test_a_sparkline_averages_a_long_history():
    assert sparkline([0, 0, 7, 7], 2) == "▁█"
    assert sparkline([0, 1, 2, 3, 4, 5, 6, 7], 8) == "▁▂▃▄▅▆▇█"
    assert sparkline([3, 3], 10) == "▁▁"
    assert sparkline([], 10) == ""


def test_the_time_left_follows_the_pace_without_the_start_up(monkeypatch):
    now = [500.0]  # long after the process began
    monkeypatch.setattr("r1mega.training.readout.time.monotonic", lambda: now[0])
    pace = Pace(total_steps=10)
    pace.advance(4)  # resumed at step 4
    assert pace.remaining == ""
    now[0] += 6.0
    pace.advance(6)
    assert pace.remaining == "12.0 s"  # 3 s a step, 4 to go
    now[0] += 2.0
    assert pace.remaining == "10.0 s"

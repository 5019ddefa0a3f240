"""A run's ear for signals, and what it says when it was stopped."""

import os
import signal
from pathlib import Path
from types import SimpleNamespace

import pytest

from r1mega.stage.bench import _how_it_stopped, hearing_signals


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1])
def test_a_signal_asks_the_run_to_stop_and_is_the_callers_again_afterwards(number: signal.Signals):
    heard = []
    before = signal.signal(number, lambda *_: heard.append("caller"))
    try:
        bench = SimpleNamespace(stop_asked=False)
        with hearing_signals(bench):
            os.kill(os.getpid(), number)
            assert bench.stop_asked and heard == []
        os.kill(os.getpid(), number)
        assert heard == ["caller"]
    finally:
        signal.signal(number, before)


def test_a_hangup_that_nohup_ignores_stays_ignored():
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        bench = SimpleNamespace(stop_asked=False)
        with hearing_signals(bench):
            os.kill(os.getpid(), signal.SIGHUP)
        assert not bench.stop_asked
    finally:
        signal.signal(signal.SIGHUP, before)


def test_what_a_stopped_run_says_is_true(tmp_path: Path):
    bench = SimpleNamespace(run_dir=tmp_path, progress=SimpleNamespace(step=0))
    assert "nothing to save" in _how_it_stopped(bench)
    bench.progress.step = 3
    assert "after step 3, not saved" in _how_it_stopped(bench)
    (tmp_path / "checkpoints/step-00000003").mkdir(parents=True)
    assert "after step 3, saved" in _how_it_stopped(bench)

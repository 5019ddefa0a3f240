"""The log of a run: what is written, what a resume cuts, how two runs are compared."""

import json
import math
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from r1mega.config import UserError
from r1mega.record import Completion, Problem, Rollout, Score
from r1mega.training.metrics import TIME_FIELDS, RunLog, same_metrics, sample_record


def lines(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def write_run(folder: Path, steps: range, *, last_step: int = -1, scale: float = 1.0) -> None:
    with RunLog(folder, last_step=last_step) as log:
        for step in steps:
            log.append({"stage": "rl", "step": step, "loss": scale / (step + 3), "tokens_per_s": 100.0})
            log.samples(step, [{"text": f"sample {step}.{i}"} for i in range(2)])


def test_a_line_has_known_keys_in_order_full_precision_and_null_for_nan(tmp_path):
    with RunLog(tmp_path, last_step=-1, tensorboard=False) as log:
        log.append({"zebra": 1, "kl": math.nan, "loss": 0.1 + 0.2, "stage": "rl",
                    "grad_norm": np.float32(0.5), "lr": math.inf, "step": 3,
                    "apple": np.int64(7), "wall_s": 1.5})
    assert (tmp_path / "metrics.jsonl").read_text() == (
        '{"step": 3, "stage": "rl", "wall_s": 1.5, "loss": 0.30000000000000004, "grad_norm": 0.5, '
        '"lr": null, "kl": null, "apple": 7, "zebra": 1}\n')


def test_wall_times_add_up_to_the_time_since_the_log_was_opened(tmp_path, monkeypatch):
    now = [100.0]
    monkeypatch.setattr("r1mega.training.metrics.time.monotonic", lambda: now[0])
    records = []
    with RunLog(tmp_path, last_step=-1, tensorboard=False) as log:
        for now[0] in (107.5, 109.0):
            records.append(log.append({"step": 1, "stage": "rl"}))
    assert [record["wall_s"] for record in records] == [7.5, 1.5]


def test_a_resume_keeps_steps_up_to_the_checkpoint_and_drops_the_line_a_kill_cut_short(tmp_path):
    write_run(tmp_path, range(6))
    for name in ("metrics.jsonl", "samples.jsonl"):
        with (tmp_path / name).open("ab") as file:
            file.write(b'{"step": 6, "sta')
    RunLog(tmp_path, last_step=3, tensorboard=False).close()
    assert [record["step"] for record in lines(tmp_path / "metrics.jsonl")] == [0, 1, 2, 3]
    assert [record["step"] for record in lines(tmp_path / "samples.jsonl")] == [0, 0, 1, 1, 2, 2, 3, 3]
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "metrics.jsonl", "samples.jsonl", "tensorboard"]  # no temporary file is left


def test_a_torn_line_is_dropped_even_when_no_step_is_cut(tmp_path):
    write_run(tmp_path, range(3))
    with (tmp_path / "metrics.jsonl").open("ab") as file:
        file.write(b'{"step": 2, "loss": 0.')
    write_run(tmp_path, range(3, 5), last_step=2)
    assert [record["step"] for record in lines(tmp_path / "metrics.jsonl")] == [0, 1, 2, 3, 4]


def test_a_resumed_run_has_the_bytes_of_the_uninterrupted_one_times_aside(tmp_path):
    write_run(tmp_path / "whole", range(8))
    write_run(tmp_path / "killed", range(6))
    write_run(tmp_path / "killed", range(4, 8), last_step=3)
    assert same_metrics(tmp_path / "whole", tmp_path / "killed") == []
    assert (tmp_path / "whole/samples.jsonl").read_bytes() == (tmp_path / "killed/samples.jsonl").read_bytes()


def test_a_damaged_line_before_the_last_is_named_and_nothing_is_cut(tmp_path):
    write_run(tmp_path, range(4))
    path = tmp_path / "metrics.jsonl"
    content = path.read_text().splitlines()
    content[1] = content[1][:20]
    path.write_text("\n".join(content) + "\n")
    before = path.read_bytes()
    with pytest.raises(UserError, match=r"metrics\.jsonl:2: damaged line"):
        RunLog(tmp_path, last_step=2)
    assert path.read_bytes() == before


def test_a_process_killed_right_after_append_has_lost_nothing(tmp_path):
    script = ("import os, signal, sys, pathlib\n"
              "from r1mega.training.metrics import RunLog\n"
              "log = RunLog(pathlib.Path(sys.argv[1]), last_step=-1, tensorboard=False)\n"
              "for step in range(50): log.append({'step': step, 'stage': 'rl'})\n"
              "os.kill(os.getpid(), signal.SIGKILL)\n")
    ended = subprocess.run([sys.executable, "-c", script, str(tmp_path)], timeout=60, env=dict(os.environ))
    assert ended.returncode == -signal.SIGKILL
    assert [record["step"] for record in lines(tmp_path / "metrics.jsonl")] == list(range(50))


def test_tensorboard_shows_the_repeated_steps_once_and_with_the_later_values(tmp_path):
    write_run(tmp_path, range(6))
    write_run(tmp_path, range(3, 6), last_step=2, scale=2.0)
    events = EventAccumulator(str(tmp_path / "tensorboard"))
    events.Reload()
    assert set(events.Tags()["scalars"]) == {"train/loss", "time/wall_s", "time/tokens_per_s"}
    shown = [(event.step, event.value) for event in events.Scalars("train/loss")]
    expected = [(step, (1.0 if step < 3 else 2.0) / (step + 3)) for step in range(6)]
    assert [step for step, _ in shown] == [step for step, _ in expected]
    np.testing.assert_allclose([v for _, v in shown], [v for _, v in expected], rtol=1e-6)


def test_tensorboard_shows_each_step_once_though_the_run_was_killed_before_its_first_checkpoint(
        tmp_path, monkeypatch):
    write_run(tmp_path, range(3))
    begun = time.time()
    monkeypatch.setattr(time, "time", lambda: begun + 5)  # event files are read in the order of their seconds
    write_run(tmp_path, range(5), scale=2.0)
    events = EventAccumulator(str(tmp_path / "tensorboard"))
    events.Reload()
    assert [event.step for event in events.Scalars("train/loss")] == list(range(5))


def test_comparing_runs_names_each_changed_field_and_ignores_times(tmp_path):
    base = {"step": 1, "stage": "rl", "loss": 0.5, "kl": 0.25} | dict.fromkeys(TIME_FIELDS, 1.0)
    other = base | {"loss": 0.5000000000000001, "entropy": 2.0} | dict.fromkeys(TIME_FIELDS, 9.0)
    for name, records in (("a", [base, base]), ("b", [base | dict.fromkeys(TIME_FIELDS, 3.0), other, other])):
        (tmp_path / name).write_text("".join(json.dumps(record) + "\n" for record in records))
    assert same_metrics(tmp_path / "a", tmp_path / "b") == [
        "line 2, step 1: loss 0.5 != 0.5000000000000001",
        "line 2, step 1: entropy absent != 2.0",
        f"line 3, step 1: only in {tmp_path / 'b'}",
    ]


def test_hostile_text_survives_samples_as_legal_json(tmp_path):
    text = "nul \x00 lone \ud800 line\u2028sep \u202e bidi\nnew line"
    problem = Problem(task="chain_sum", question="1 + 1?", answer="2")
    rollout = Rollout(problem, 3, (1, 2), Completion((4, 5, 6), (-1.0, -2.0, -3.0), "length"), text,
                      Score(1.0, {"accuracy": 0.0, "format": 1.0}, {}))
    with RunLog(tmp_path, last_step=-1, tensorboard=False) as log:
        log.samples(7, [sample_record(rollout, "heldout")])
    assert lines(tmp_path / "samples.jsonl") == [{
        "step": 7, "split": "heldout", "problem": problem.id, "task": "chain_sum", "sample": 3,
        "question": "1 + 1?", "answer": "2", "text": text, "reward": 1.0,
        "parts": {"accuracy": 0.0, "format": 1.0}, "notes": {}, "tokens": 3, "finish": "length"}]


def test_a_record_without_a_step_is_refused(tmp_path):
    log = RunLog(tmp_path, last_step=-1, tensorboard=False)
    with pytest.raises(ValueError, match="integer `step`"):
        log.append({"stage": "rl", "loss": 1.0})


@pytest.mark.skipif("wandb" in sys.modules, reason="something else loaded it")
def test_asking_for_wandb_without_the_package_says_what_to_do(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "wandb", None)  # as if it were not installed
    with pytest.raises(UserError, match=r"log\.wandb_project='p': .*pip install wandb"):
        RunLog(tmp_path, last_step=-1, wandb_project="p")

"""The arithmetic and the choices behind the page."""

import json
import re
from importlib.metadata import version
from pathlib import Path

import pytest

from r1mega.config import UserError
from r1mega.report import plot_curves
from r1mega.report.curve import mean_and_range, smooth, thin
from r1mega.report.headline import wilson
from r1mega.report.run import labels, read_run, repetitions
from r1mega.report.samples import early_and_late
from tests.report.synthetic import write_run

ROOT = Path(__file__).parents[2]


def run_with_samples(folder: Path, *samples: dict):
    folder.mkdir()
    (folder / "metrics.jsonl").write_text("")
    (folder / "samples.jsonl").write_text("".join(json.dumps(sample) + "\n" for sample in samples))
    return read_run(folder)


@pytest.mark.parametrize(("right", "count", "low", "high"), [
    (81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605), (0, 20, 0.0, 0.1611), (1, 29, 0.0061, 0.1718)])
def test_the_stand_in_interval_is_wilsons(right, count, low, high):
    """Values published by Newcombe (Statistics in Medicine 17, 1998), table I, method 3."""
    assert wilson(right / count, count) == pytest.approx((low, high), abs=5e-5)


def test_smoothing_keeps_a_line_straight_in_the_middle_and_short_curves_as_they_are():
    line = [(step, 2.0 * step) for step in range(100)]
    mean, width = smooth(line)
    assert width == 5
    assert mean[2:98] == line[2:98]
    assert mean[0] == (0, 2.0) and mean[99] == (99, 196.0)  # means of 0, 2, 4 and of 194, 196, 198
    assert smooth(line[:39]) == (line[:39], 1)


def test_thinning_averages_neighbours():
    assert thin([(1, 1.0), (2, 3.0), (3, 10.0), (4, 20.0)], most=2) == [(1, 2.0), (3, 15.0)]
    assert thin([(1, 1.0)], most=2) == [(1, 1.0)]


def test_mean_and_range_use_the_steps_all_runs_have():
    assert mean_and_range([[(0, 1.0), (1, 4.0)], [(1, 2.0), (2, 9.0)]]) == [(1, 3.0, 2.0, 4.0)]
    assert mean_and_range([]) == []


def test_runs_that_differ_in_more_than_the_seed_are_not_averaged(tmp_path):
    runs = [read_run(write_run(tmp_path / f"r{seed}", steps=1, seed=seed)) for seed in range(2)]
    assert repetitions(runs) and labels(runs) == ["seed 0", "seed 1"]
    recipe = tmp_path / "r1" / "recipe.toml"
    recipe.write_text(recipe.read_text().replace("lr = 3e-4", "lr = 1e-4"))
    runs = [runs[0], read_run(tmp_path / "r1")]
    assert not repetitions(runs) and labels(runs) == ["r0", "r1"]


def test_lines_of_one_step_become_one_record_and_their_seconds_add_up(tmp_path):
    lines = [{"step": 2, "wall_s": 3.0, "loss": 1.0}, {"step": 2, "wall_s": 4.5, "heldout_pass_at_1": 0.5},
             {"step": 1, "wall_s": 1.0, "loss": None}]
    (tmp_path / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    run = read_run(tmp_path)
    assert run.metrics[1] == {"step": 2, "wall_s": 7.5, "loss": 1.0, "heldout_pass_at_1": 0.5}
    assert run.curve("loss") == [(2, 1.0)]


def test_samples_pair_the_same_problem_first_and_last_held_out_ones_before(tmp_path):
    def sample(step, problem, text, split="heldout"):
        return {"step": step, "problem": problem, "text": text, "split": split, "question": problem}

    run = run_with_samples(
        tmp_path / "r", sample(0, "t", "t early", "train"), sample(0, "a", "a early"),
        sample(0, "b", "b early"), sample(5, "a", "a middle"),
        sample(8, "a", "a nearly last"), sample(9, "b", "b last"),
        sample(9, "a", "a last"), sample(9, "t", "t last", "train"))
    assert [(str(early.html), str(late.html)) for early, late in early_and_late(run)] == [
        ("a early", "a last"), ("b early", "b last"), ("t early", "t last")]


def test_without_a_repeated_problem_a_similar_one_of_the_same_task_stands_in(tmp_path):
    def sample(step, task, question):
        return {"step": step, "problem": question, "task": task, "question": question, "text": question}

    run = run_with_samples(tmp_path / "r", sample(0, "sum", "1 + 1"), sample(9, "count", "2 + 2"),
                           sample(9, "sum", "22 + 33 + 44"), sample(9, "sum", "3 + 4"))
    assert [(early.question, late.question) for early, late in early_and_late(run)] == [("1 + 1", "3 + 4")]


def test_samples_of_a_single_step_have_nothing_to_be_compared_with(tmp_path):
    assert early_and_late(run_with_samples(tmp_path / "r", {"step": 3, "text": "x"})) == []


def test_the_readme_figure_is_small_self_contained_and_the_same_every_time(tmp_path):
    runs = [write_run(tmp_path / f"r{seed}", steps=400, seed=seed) for seed in range(3)]
    svg = plot_curves(runs, tmp_path / "a.svg").read_bytes()
    assert len(svg) < 150_000
    assert plot_curves(runs, tmp_path / "b.svg").read_bytes() == svg
    assert not re.search(rb"<image|<script|href=\"[^#]", svg)
    assert plot_curves(runs[:1], tmp_path / "a.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.skipif(f"matplotlib=={version('matplotlib')}\n" not in (ROOT / "constraints.txt").read_text(),
                    reason="another matplotlib than the pinned one draws other bytes")
def test_the_readmes_figure_is_that_of_the_records_beside_it(tmp_path):
    records = ROOT / "configs/tiny/records"
    redrawn = plot_curves([records / f"seed-{seed}" for seed in range(3)], tmp_path / "curves.svg")
    assert redrawn.read_bytes() == (records / "curves.svg").read_bytes()


def test_the_readme_figure_says_what_it_cannot_do(tmp_path):
    run = write_run(tmp_path / "r", steps=2)
    with pytest.raises(UserError, match=r"a\.pdf: a figure ends in \.svg or \.png"):
        plot_curves([run], tmp_path / "a.pdf")
    (run / "metrics.jsonl").write_text("")
    with pytest.raises(UserError, match="nothing to draw yet"):
        plot_curves([run], tmp_path / "a.svg")

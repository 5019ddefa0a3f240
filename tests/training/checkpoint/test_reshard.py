"""A checkpoint goes on under any layout: weights, reference, master weights and both moments."""

import logging
from pathlib import Path

import pytest
import torch
from torch.testing import assert_close

from r1mega.training.checkpoint import CheckpointStore
from tests.ranks import run_ranks
from tests.training.checkpoint.contents import same_bits, whole_checkpoint
from tests.training.checkpoint.runs import Run

ONE: dict[str, int] = {}
LAYOUTS = {
    "EP2": {"data_parallel": 2, "expert_parallel": 2},
    "DP2": {"data_parallel": 2},
    "TP2": {"tensor_parallel": 2},
    "PP2": {"pipeline_parallel": 2},
    "PP2 VPP2": {"pipeline_parallel": 2, "virtual_stages": 2},
    "TP2 EP2": {"tensor_parallel": 2, "expert_parallel": 2},
    "TP2 ETP2": {"tensor_parallel": 2, "expert_tensor_parallel": 2},
    "TP2 PP2 EP2": {"tensor_parallel": 2, "pipeline_parallel": 2, "expert_parallel": 2},
    "EP4": {"data_parallel": 4, "expert_parallel": 4},
    "EP2 EDP2": {"data_parallel": 4, "expert_parallel": 2},
}
RANKS = {"one": 1, **{name: 2 for name in list(LAYOUTS)[:7]}, **{name: 4 for name in list(LAYOUTS)[7:]}}


def begin(root: Path) -> list[tuple[float, float]]:
    """Train 3 steps on one rank and save; then 2 more and save; then one more. The last three steps'
    results."""
    logging.disable(logging.WARNING)
    run = Run(ONE)
    run.train(3)
    store = CheckpointStore(root, 9, True, run.groups)
    store.save(3, run.snapshot())
    results = run.train(2)
    store.save(5, run.snapshot())
    results += run.train(1)
    store.finish()
    return results


def go_on(start: Path, root: Path, names: list[str]) -> dict[str, list[tuple[float, float]]]:
    """Under each layout: resume from `start`, save that at once as step 3 of root/name, then as `begin`
    does."""
    logging.disable(logging.WARNING)
    results = {}
    for name in names:
        run = Run(LAYOUTS[name], seed=9)
        run.resume(CheckpointStore(start, 9, True, run.groups), 3)
        store = CheckpointStore(root / name, 9, True, run.groups)
        store.save(3, run.snapshot())
        results[name] = run.train(2)
        store.save(5, run.snapshot())
        results[name] += run.train(1)
        store.finish()
        run.leave()
    return results


def come_back(root: Path, names: list[str]) -> dict[str, list[tuple[float, float]]]:
    """On one rank again, the step after each layout's last checkpoint."""
    logging.disable(logging.WARNING)
    run = Run(ONE, seed=9)
    results = {}
    for name in names:
        run.resume(CheckpointStore(root / name, 9, True, run.groups))
        results[name] = run.train(1)
    return results


@pytest.fixture(scope="module")
def resharded(tmp_path_factory):
    """(folder of all checkpoints, results by layout, results after coming back)"""
    root = tmp_path_factory.mktemp("reshard")
    results = {"one": run_ranks(begin, 1, root / "one", timeout=900)[0]}
    for ranks in (2, 4):
        names = [name for name in LAYOUTS if RANKS[name] == ranks]
        results |= run_ranks(go_on, ranks, root / "one", root, names, timeout=900)[0]
    return root, results, run_ranks(come_back, 1, root, list(LAYOUTS), timeout=900)[0]


@pytest.mark.parametrize("name", LAYOUTS)
def test_loading_and_saving_under_another_layout_gives_back_the_same_bits(resharded, name):
    root, _, _ = resharded
    before = whole_checkpoint(root / "one" / "step-00000003")
    after = whole_checkpoint(root / name / "step-00000003")
    assert before.keys() == after.keys()
    assert [key for key in before if not same_bits(before[key], after[key])] == []


@pytest.mark.parametrize("name", LAYOUTS)
def test_training_goes_on_under_another_layout_as_if_nothing_had_changed(resharded, name):
    _, results, _ = resharded
    assert_close(torch.tensor(results[name]), torch.tensor(results["one"]), rtol=1e-5, atol=0)


@pytest.mark.parametrize("name", LAYOUTS)
def test_moments_after_two_more_steps_agree_by_name(resharded, name):
    root, _, _ = resharded
    expected = whole_checkpoint(root / "one" / "step-00000005")
    actual = whole_checkpoint(root / name / "step-00000005")
    for key, tensor in expected.items():
        error = (actual[key] - tensor).double().norm() / tensor.double().norm().clamp(min=1e-30)
        assert error < 1e-4, (key, float(error))


@pytest.mark.parametrize("name", LAYOUTS)
def test_back_on_one_rank_the_next_step_is_that_of_the_layout_that_saved(resharded, name):
    _, results, back = resharded
    assert_close(torch.tensor(back[name]), torch.tensor(results[name][2:]), rtol=1e-5, atol=0)


def test_moments_are_saved_for_every_trained_parameter_and_are_not_zero(resharded):
    root, _, _ = resharded
    tensors = whole_checkpoint(root / "one" / "step-00000003")
    trained = {
        key.removeprefix("optimizer/master.") for key in tensors if key.startswith("optimizer/master.")
    }
    weights = {key.removeprefix("weights/") for key in tensors if key.startswith("weights/")}
    assert weights - trained == {key for key in weights if key.endswith("router.expert_bias")}
    for name in trained:
        assert same_bits(tensors[f"optimizer/master.{name}"], tensors[f"weights/{name}"])
        assert tensors[f"optimizer/exp_avg.{name}"].count_nonzero() > 0
        assert tensors[f"optimizer/exp_avg_sq.{name}"].min() >= 0

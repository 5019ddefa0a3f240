"""The CPU door: what Megatron asks of CUDA is answered for the CPU, and nothing else changes."""

import subprocess
import sys

import pytest
import torch
import torch.distributed as dist

import r1mega.parallel  # noqa: F401  opens the door where there is no GPU
from r1mega.parallel.cpu import FACTORIES, open_door
from tests.ranks import run_ranks

pytestmark = pytest.mark.skipif(torch.cuda.is_available(), reason="with a GPU the door stays shut")


def test_factories_put_cuda_tensors_on_the_cpu_and_leave_others_alone():
    for make in (torch.zeros, torch.empty, torch.ones):
        assert make(2, device="cuda").device.type == make(2, device=torch.device("cuda", 0)).device.type == "cpu"
        assert make(2, device=0).device.type == "cpu" and make(2, device="meta").device.type == "meta"
    assert torch.tensor([1.5, 2.0], device="cuda", pin_memory=True).tolist() == [1.5, 2.0]
    assert torch.full((2,), 3.0, device="cuda").tolist() == [3.0, 3.0]


def test_the_meta_device_still_works_as_a_context():
    with torch.device("meta"):
        made = [torch.empty(2), torch.arange(3), torch.ones(2), torch.tensor([1.0])]
    assert {tensor.device.type for tensor in made} == {"meta"}


def test_tensors_say_the_type_that_megatrons_optimizer_accepts():
    assert torch.ones(1).type() == "torch.cuda.FloatTensor"
    assert torch.ones(1).type(torch.float64).dtype == torch.float64  # conversions still convert
    tensor = torch.ones(1)
    assert tensor.cuda() is tensor and tensor.device.type == "cpu"


def test_streams_and_random_states_answer():
    torch.cuda.current_stream().wait_stream(torch.cuda.Stream())
    torch.cuda.synchronize()
    before = torch.cuda.get_rng_state()
    first = torch.rand(3)
    torch.cuda.set_rng_state(before)
    assert torch.equal(torch.rand(3), first)


def test_opening_twice_wraps_once():
    wrapped = {name: getattr(torch, name) for name in FACTORIES}
    open_door()
    assert all(getattr(torch, name) is function for name, function in wrapped.items())


def gather_unlike_pieces() -> tuple[list[float], list[float]]:
    """Rank 0 brings one row, rank 1 three; the gradient is what both ranks say of a piece, added up."""
    from megatron.core.tensor_parallel import gather_from_sequence_parallel_region

    group, rank = dist.group.WORLD, dist.get_rank()
    rows = torch.tensor([[1.0], [2.0], [3.0], [4.0]])[slice(0, 1) if rank == 0 else slice(1, 4)].requires_grad_()
    whole = gather_from_sequence_parallel_region(rows, group=group, output_split_sizes=[1, 3])
    (whole[:, 0] * torch.tensor([1.0, 10.0, 100.0, 1000.0]) * (rank + 1)).sum().backward()
    return whole[:, 0].tolist(), rows.grad[:, 0].tolist()


def test_gloo_gathers_pieces_of_unlike_sizes_and_their_gradients():
    whole = [1.0, 2.0, 3.0, 4.0]
    assert run_ranks(gather_unlike_pieces, 2, init="gloo") == [(whole, [3.0]), (whole, [30.0, 300.0, 3000.0])]


@pytest.mark.parametrize("module", ["r1mega.model", "r1mega.rollout", "r1mega.training.learner", "r1mega.stage.rl",
                                    "r1mega.training.checkpoint"])
def test_the_door_is_open_whatever_is_imported_first(module: str):
    code = f"import {module}, torch; assert torch.zeros(1, device='cuda').device.type == 'cpu'"
    done = subprocess.run([sys.executable, "-W", "error::UserWarning", "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]

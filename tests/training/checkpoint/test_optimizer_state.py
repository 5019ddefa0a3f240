"""Putting the slices of Megatron's distributed optimizer together, bucket by bucket."""

import logging
from typing import Any

import pytest
import torch
import torch.distributed as dist
from megatron.core.distributed import DistributedDataParallel, DistributedDataParallelConfig

from r1mega.config import LayoutConfig
from r1mega.config.training import OptimizerConfig
from r1mega.model import PolicySettings, build_policy
from r1mega.parallel import start
from r1mega.training.checkpoint import optimizer_state
from r1mega.training.optimizer import build_optimizer
from tests.ranks import run_ranks
from tests.training.checkpoint.runs import MODEL

BUCKET = 100_000  # elements; the tiny model has 1.4 million


def gather_many_buckets(piece: int) -> tuple[int, int, list[int]]:
    """Every slice gets values that tell parameter and position; what is put together must count up from 0.

    Returns parameters seen, buckets, and how many elements each gathering put on the device."""
    logging.disable(logging.WARNING)
    optimizer_state.PIECE = piece
    groups = start(LayoutConfig(data_parallel=dist.get_world_size()), 0)
    chunks = build_policy(MODEL, groups, PolicySettings(mtp="joint"))
    config = DistributedDataParallelConfig(
        use_distributed_optimizer=True, overlap_grad_reduce=True, bucket_size=BUCKET)
    wrapped = [DistributedDataParallel(chunks[0].config, config, chunks[0], pg_collection=groups.pg)]
    optimizer = build_optimizer(wrapped, OptimizerConfig(lr=1e-3), before_reduction=lambda: None)
    optimizer_state._initialize_state(optimizer)
    number = {id(parameter): n for n, parameter in enumerate(chunks[0].parameters())}
    for inner in optimizer.chained_optimizers:
        for parameter, owned in optimizer_state._owned_slices(inner):
            for plus, state in enumerate(owned.states.values()):
                state.copy_(torch.arange(owned.start, owned.end) + 1000 * number[id(parameter)] + plus)
    gathered, gather = [], dist.all_gather_into_tensor

    def count(parts: torch.Tensor, mine: torch.Tensor, **more: Any) -> None:
        gathered.append(len(parts))
        gather(parts, mine, **more)

    dist.all_gather_into_tensor = count
    seen = 0
    for inner in optimizer.chained_optimizers:
        for parameter, states in optimizer_state._gathered_states(inner, lambda parameter: True):
            for plus, (name, state) in enumerate(states.items()):
                expected = torch.arange(parameter.numel()) + 1000 * number[id(parameter)] + plus
                assert torch.equal(state, expected.view(parameter.shape).float()), (name, parameter.shape)
            seen += 1
        assert not list(optimizer_state._gathered_states(inner, lambda parameter: False))
    assert seen == len(number)
    return seen, sum(len(b.buckets) for inner in optimizer.chained_optimizers for b in inner.buffers), gathered


@pytest.mark.parametrize("piece", [1 << 26, 9_999])
def test_states_of_every_parameter_are_right_beyond_the_first_bucket_and_in_pieces(piece: int):
    seen, buckets, gathered = run_ranks(gather_many_buckets, 2, piece, init="gloo", timeout=600)[0]
    assert seen > 100 and buckets > 5
    assert max(gathered) <= piece
    assert (len(gathered) > 6 * buckets) == (piece < BUCKET)


def test_a_replica_that_is_alone_copies_its_states_without_gathering_any():
    seen, _, gathered = run_ranks(gather_many_buckets, 1, 1 << 26, init="gloo", timeout=600)[0]
    assert seen > 100 and gathered == []

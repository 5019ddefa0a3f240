"""Megatron-Core's fused vocab-parallel cross-entropy; it sends messages even on one rank, so it gets a group of one."""

from collections.abc import Callable

import torch

from r1mega_kernels.benchmarks.peer import Collective, Peer, Result
from r1mega_kernels.benchmarks.peers.group_of_one import group_of_one
from r1mega_kernels.benchmarks.problem import LogitsProblem


def _load(device: torch.device) -> Callable[[LogitsProblem], Result]:
    from megatron.core.fusions.fused_cross_entropy import fused_vocab_parallel_cross_entropy
    group = group_of_one(device)

    def forward(problem: LogitsProblem) -> Result:
        loss_T1 = fused_vocab_parallel_cross_entropy(problem.logits_TV[:, None], problem.targets_T[:, None], group)
        upstream_T1 = problem.ones_T[:, None]
        return Result(
            loss_T1[:, 0], None, lambda: torch.autograd.grad(loss_T1, problem.leaves, upstream_T1))
    return forward


def peers() -> list[Peer]:
    return [Peer(
        name="Megatron fused CE", package="megatron-core", operation="logits", computes="NLL; TP", needs_gpu=False,
        collectives=(Collective("all-reduce", 4), Collective("all-reduce", 8)), load=_load)]

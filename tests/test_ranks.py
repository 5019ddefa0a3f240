import os
import time

import pytest
import torch
import torch.distributed

from tests.ranks import RankError, run_ranks


def _rank_and_sum(offset: int) -> tuple[int, float, str]:
    total = torch.tensor(float(torch.distributed.get_rank() + offset))
    torch.distributed.all_reduce(total)
    return torch.distributed.get_rank(), total.item(), os.environ["OMP_NUM_THREADS"]


def _visible_gpus() -> str | None:
    return os.environ.get("CUDA_VISIBLE_DEVICES")


def _start_by_hand() -> int:
    torch.distributed.init_process_group("gloo")
    return torch.distributed.get_world_size()


def _raise_on_rank_1() -> None:
    if torch.distributed.get_rank() == 1:
        raise ValueError("the reason")
    torch.distributed.barrier()


def _hang_on_rank_0() -> None:
    if os.environ["RANK"] == "0":
        time.sleep(1000)


def test_results_come_back_by_rank():
    # 10 + 11 = 21 on both
    assert run_ranks(_rank_and_sum, 2, 10, init="gloo") == [(0, 21.0, "1"), (1, 21.0, "1")]


def test_a_function_may_start_the_process_group_itself():
    assert run_ranks(_start_by_hand, 2) == [2, 2]


def test_ranks_see_gpus_only_if_the_test_wants_them(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1")  # two ranks would take the first for theirs, under NCCL
    assert run_ranks(_visible_gpus, 1) == [""] and run_ranks(_visible_gpus, 1, gpus=True) == ["0,1"]


def test_an_exception_on_one_rank_is_shown_and_ends_the_others():
    with pytest.raises(RankError, match="(?s)rank 1: exit status 1.*ValueError: the reason"):
        run_ranks(_raise_on_rank_1, 2, init="gloo")


def test_a_hung_rank_is_killed_and_its_stack_shown():
    start = time.monotonic()
    with pytest.raises(RankError, match="(?s)rank 0: still running at the timeout.*in _hang_on_rank_0"):
        run_ranks(_hang_on_rank_0, 2, timeout=10)
    assert time.monotonic() - start < 30

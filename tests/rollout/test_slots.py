"""Rows against a plain record of who should have which tokens."""

import random

import pytest
import torch

from r1mega.record import Completion
from r1mega.rollout.sampling import Sampling
from r1mega.rollout.slots import Slots

CPU = torch.device("cpu")
STOP = 99


def record(slots: Slots, first_row: int, tokens: list[int]) -> tuple[list[int], int]:
    return slots.record(first_row, torch.tensor(tokens), -torch.tensor(tokens).float())


def test_a_finished_row_is_filled_by_the_last_one():
    slots = Slots(4, Sampling(max_new_tokens=5, stop_ids=(STOP,)), CPU)
    slots.add([10, 11, 12, 13], [1, 2, 3, 4], [3, 7, 2, 4])
    assert record(slots, 0, [5, 6, 7, 8]) == ([], 8)  # request 11 has a prompt of 7: places 0 to 7
    assert slots.positions.tolist() == [3, 7, 2, 4] and slots.tokens.tolist() == [5, 6, 7, 8]
    done, length = record(slots, 0, [STOP, STOP, 17, 18])
    assert (done, length) == ([0, 1], 9)
    assert slots.take(done, frozenset({STOP})) == [
        (10, Completion((5, STOP), (-5.0, -99.0), "stop")),
        (11, Completion((6, STOP), (-6.0, -99.0), "stop"))]
    sources, targets = slots.release(done)
    assert (sources.tolist(), targets.tolist()) == ([2, 3], [0, 1])
    assert slots.requests == [12, 13] and slots.num_free == 2
    assert slots.tokens.tolist() == [17, 18] and slots.positions.tolist() == [3, 5]
    assert slots.seeds.tolist() == [3, 4] and slots.sampled.tolist() == [2, 2]


@pytest.mark.parametrize("seed", range(5))
def test_every_request_gets_its_own_tokens_in_order(seed):
    """Random arrivals and ends; each row's cache is stood in for by a list that moves as `release` says."""
    draw = random.Random(seed)
    slots = Slots(6, Sampling(max_new_tokens=8, stop_ids=(STOP, 98)), CPU)
    cache: list[int | None] = [None] * 6
    expected: dict[int, list[int]] = {}
    finished: dict[int, Completion] = {}
    waiting = list(range(40))
    while len(finished) < 40:
        arrivals = [waiting.pop(0) for _ in range(min(draw.randint(0, slots.num_free), len(waiting)))]
        first = slots.num_active
        slots.add(arrivals, [request * 3 for request in arrivals], [request + 1 for request in arrivals])
        cache[first : first + len(arrivals)] = arrivals
        expected |= {request: [] for request in arrivals}
        for start in (first, 0):
            if slots.num_active == start:
                continue
            tokens = [draw.choice([1, 2, 3, 4, 5, 98, STOP]) for _ in range(slots.num_active - start)]
            for request, token in zip(slots.requests[start:], tokens, strict=True):
                expected[request].append(token)
            done, _ = record(slots, start, tokens)
            finished |= dict(slots.take(done, frozenset({STOP, 98}))) if done else {}
            for source, target in zip(*(index.tolist() for index in slots.release(done)), strict=True):
                cache[target] = cache[source]
            assert cache[: slots.num_active] == slots.requests
            assert slots.seeds.tolist() == [request * 3 for request in slots.requests]
            assert slots.positions.tolist() == [r + len(expected[r]) for r in slots.requests]
            if slots.num_active == 0:
                break
    for request, completion in finished.items():
        assert completion.token_ids == tuple(expected[request])
        assert completion.log_probs == tuple(-float(token) for token in expected[request])
        stopped = expected[request][-1] in (98, STOP)
        assert completion.finish == ("stop" if stopped else "length")
        assert stopped or len(expected[request]) == 8

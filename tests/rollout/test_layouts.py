"""The engine under every kind of layout: the same tokens as on one rank, and the trainer's log-probs."""

import pytest

from tests.ranks import run_ranks
from tests.rollout.layouts import STOPS, Case, requests, sample_all

DISPATCHED = {"expert_bytes": 0}  # experts are not copied: tokens travel to them
TP2, PP2 = {"tensor_parallel": 2}, {"pipeline_parallel": 2}
EP2 = {"data_parallel": 2, "expert_parallel": 2}
ETP2 = {"data_parallel": 2, "expert_tensor_parallel": 2}  # each expert is cut over two replicas

ONE_RANK = {
    "plain": Case(),
    "yarn": Case(yarn=True),
    "all slots at once": Case(slots=64),
    "one slot": Case(slots=1, num_requests=5),
    "requests backwards": Case(slots=7, backwards=True),
    "hot": Case(temperature=1.7),
    "filtered": Case(temperature=1.3, top_k=20, top_p=0.8),
    "greedy": Case(temperature=0.0),
}
TWO_RANKS = {
    "tp2": Case(TP2, yarn=True),
    "tp2 filtered": Case(TP2, temperature=1.3, top_k=20, top_p=0.8),
    "tp2 greedy": Case(TP2, temperature=0.0),
    "tp2 ep2": Case(TP2 | {"expert_parallel": 2}),
    "tp2 ep2 dispatched": Case(TP2 | {"expert_parallel": 2}, engine=DISPATCHED),
    "tp2 etp2": Case(TP2 | {"expert_tensor_parallel": 2}),
    "tp2 etp2 dispatched": Case(TP2 | {"expert_tensor_parallel": 2}, engine=DISPATCHED),
    "ep2": Case(EP2, yarn=True),
    "ep2 dispatched": Case(EP2, engine=DISPATCHED),
    "ep2, nothing for one replica": Case(EP2, all_to_first=True),
    "ep2 dispatched, nothing for one replica": Case(EP2, all_to_first=True, engine=DISPATCHED),
    "etp2": Case(ETP2),
    "etp2 dispatched": Case(ETP2, engine=DISPATCHED),
    "etp2 dispatched, nothing for one replica": Case(ETP2, all_to_first=True, engine=DISPATCHED),
    "pp2": Case(PP2, yarn=True),
    "pp2 vpp2": Case(PP2 | {"virtual_stages": 2}),
}
FEW = {"num_requests": 9, "slots": 2}
FOUR_RANKS = {
    "tp2 pp2 ep2": Case(TP2 | PP2 | {"expert_parallel": 2}, yarn=True, **FEW),
    "tp2 pp2 ep2 dispatched": Case(TP2 | PP2 | {"expert_parallel": 2}, engine=DISPATCHED, **FEW),
    "tp2 ep4 dispatched": Case(TP2 | {"data_parallel": 2, "expert_parallel": 4}, engine=DISPATCHED, **FEW),
    "pp2 vpp2 ep2": Case(PP2 | {"virtual_stages": 2, "data_parallel": 2, "expert_parallel": 2}, **FEW),
}


@pytest.fixture(scope="module")
def results():
    """Case name -> one entry a rank."""
    by_name = {}
    for num_ranks, cases in ((1, ONE_RANK), (2, TWO_RANKS), (4, FOUR_RANKS)):
        ranks = run_ranks(sample_all, num_ranks, list(cases.values()), timeout=900)
        by_name |= dict(zip(cases, zip(*ranks, strict=True), strict=True))
    return by_name


ALL = ONE_RANK | TWO_RANKS | FOUR_RANKS


def like(case: Case) -> str:
    """The one-rank case that draws the same samples."""
    return {(1.3, False): "filtered", (0.0, False): "greedy", (1.7, False): "hot", (1.0, True): "yarn",
            (1.0, False): "plain"}[case.temperature, case.yarn]


@pytest.mark.parametrize("name", ALL)
def test_log_probs_are_those_of_the_trainer(results, name):
    for completions, trainer in results[name]:
        for index, completion in completions.items():
            assert trainer[index] == pytest.approx(completion.log_probs, abs=1e-4)


@pytest.mark.parametrize("name", ALL)
def test_samples_depend_on_seed_and_prompt_alone(results, name):
    """Not on slots, order, layout, or which replica samples them."""
    expected = results[like(ALL[name])][0][0]
    seen = set()
    for completions, _ in results[name]:
        for index, completion in completions.items():
            assert completion.token_ids == expected[index].token_ids
            assert completion.log_probs == pytest.approx(expected[index].log_probs, abs=1e-4)
            assert completion.finish == expected[index].finish
            seen.add(index)
    assert seen == set(range(ALL[name].num_requests))


def test_samples_are_varied(results):
    """Guards the tests above: a model that always says the same would pass them."""
    completions = results["plain"][0][0]
    assert {completion.finish for completion in completions.values()} == {"stop", "length"}
    assert len({completion.token_ids for completion in completions.values()}) > 20
    # Two requests with one prompt and two seeds.
    asked = requests(24)
    assert asked[1].prompt_ids == asked[2].prompt_ids and completions[1] != completions[2]
    assert results["yarn"][0][0] != completions


@pytest.mark.parametrize("name", ["plain", "greedy", "filtered", "pp2", "tp2"])
def test_a_completion_ends_with_its_first_stop_token_or_at_the_limit(results, name):
    for completions, _ in results[name]:
        for completion in completions.values():
            *before, last = completion.token_ids
            assert not set(before) & set(STOPS)
            if completion.finish == "stop":
                assert last in STOPS
            else:
                assert last not in STOPS and len(completion.token_ids) == 12
            assert max(completion.token_ids) < 200  # 56 columns of the head are padding

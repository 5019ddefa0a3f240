"""The search on a language small enough to know everything about: a completion is three letters with a stop after each.

Tokens 1 and 2 are letters, 9 ends a step. Right is 2 2 2.
"""

from collections.abc import Sequence

import pytest

from r1mega.record import Completion, SampleRequest
from r1mega.rollout.tree_search import Finding, Node, SearchSettings, choose, puct, search

PROMPT = (7,)
SETTINGS = SearchSettings(budget=300, max_tokens=6, ends_step=frozenset([9]), branches=2)
RIGHT = (2, 9, 2, 9, 2, 9)


class Speaker:
    """Says 2 with odds of one in eight, decided by the request's seed alone."""

    def __init__(self) -> None:
        self.rounds: list[list[SampleRequest]] = []

    def __call__(self, requests: Sequence[SampleRequest]) -> list[Completion]:
        self.rounds.append(list(requests))
        return [self._said(request) for request in requests]

    def _said(self, request: SampleRequest) -> Completion:
        said = request.prompt_ids[len(PROMPT):]
        ids = [token for at in range(len(said), 6, 2) for token in (2 if request.seed >> 8 * at & 7 == 0 else 1, 9)]
        return Completion(tuple(ids), (0.0,) * len(ids), "stop")


def share_of_twos(found: Sequence[tuple[int, Finding]]) -> list[float]:
    return [one.token_ids.count(2) / 3 for _, one in found]


def right(found: Sequence[tuple[int, Finding]]) -> list[float]:
    return [float(one.token_ids == RIGHT) for _, one in found]


def test_puct_by_hand():
    node = Node((), visits=9, worth=3.0, sampled=4)
    child = Node((1, 9), node, visits=2, worth=1.0, begun=3)
    # 1/2 + 2 x 3/4 x 3 / 3
    assert puct(node, child, 2.0) == pytest.approx(2.0)


def test_where_to_sample_by_hand():
    root = Node((), visits=4, worth=2.0, sampled=4)
    good = root.children[(2, 9)] = Node((2, 9), root, visits=2, worth=2.0, begun=2)
    root.children[(1, 9)] = Node((1, 9), root, visits=2, worth=0.0, begun=2)
    # good: 1 + 1/2 x 2 / 3 = 1.33; the other: 0.33; more here: 0.5 + 1/3 x 2 / 5 = 0.63. Nothing is known below good.
    good.sampled = 0
    good.children = {(1, 9): Node((2, 9, 1, 9), good, is_end=True, visits=2, worth=2.0, begun=2)}
    good.sampled = 2
    assert choose(root, SETTINGS) is good  # its only child is an end, so that more is sampled there
    good.is_end = True
    # Without an open child but the other (0.33), more is sampled at the root
    assert choose(root, SETTINGS) is root


def test_a_round_visits_every_problem_with_budget_and_counts_every_token():
    speaker = Speaker()
    trees = search([("a", PROMPT), ("b", PROMPT)], SETTINGS, speaker, right)
    for tree in trees:
        mine = [one for one in tree.found]
        assert tree.root.visits == len(mine) == len(tree.worth) and tree.root.worth == sum(tree.worth)
        assert mine[-1].generated == tree.generated >= SETTINGS.budget > mine[-3].generated
        assert all(len(one.token_ids) == 6 for one in mine)
        tokens = [6 - 2 * one.depth for one in mine]
        assert [one.generated for one in mine] == [sum(tokens[:at + 1]) for at in range(len(tokens))]
    assert trees[0].found != trees[1].found  # seeds are the problem's own
    assert {len(requests) for requests in speaker.rounds} <= {2, 4}


def test_a_problem_is_searched_the_same_whatever_its_neighbours():
    alone, = search([("a", PROMPT)], SETTINGS, Speaker(), share_of_twos)
    beside = search([("b", PROMPT), ("a", PROMPT)], SETTINGS, Speaker(), share_of_twos)[1]
    assert alone.found == beside.found


def test_children_are_consistent_with_what_was_sampled():
    tree, = search([("a", PROMPT)], SETTINGS, Speaker(), share_of_twos)
    waiting, deepest = [tree.root], 0
    while waiting:
        node = waiting.pop()
        deepest = max(deepest, node.depth)
        assert sum(child.begun for child in node.children.values()) == node.sampled
        assert node.visits == node.begun + sum(child.visits for child in node.children.values())
        assert all(child.prefix == node.prefix + step and child.is_end == (len(child.prefix) == 6)
                   for step, child in node.children.items())
        waiting += node.children.values()
    assert deepest == 3


def test_plain_sampling_is_the_search_that_never_descends():
    plain = SearchSettings(**{**vars(SETTINGS), "descend": False})
    speaker = Speaker()
    tree, = search([("a", PROMPT)], plain, speaker, right)
    assert all(request.prompt_ids == PROMPT for requests in speaker.rounds for request in requests)
    assert {one.depth for one in tree.found} == {0} and len(tree.found) == 50


def test_a_value_that_shows_the_way_finds_what_sampling_does_not():
    """1 in 512 completions is right. Guided by the share of right letters, the search finds one with the tokens of 50
    completions in most of 40 problems; plain sampling, of the same tokens, in few (40 x 50 / 512, about 4)."""
    problems = [(str(number), PROMPT) for number in range(40)]
    plain = SearchSettings(**{**vars(SETTINGS), "descend": False})
    guided = search(problems, SETTINGS, Speaker(), share_of_twos)
    sampled = search(problems, plain, Speaker(), share_of_twos)
    hits = [sum(any(one.token_ids == RIGHT for one in tree.found) for tree in trees) for trees in (guided, sampled)]
    assert hits[0] > 30 and hits[1] < 10, hits


def test_ranks_without_budget_wait_for_those_with():
    asked: list[bool] = []

    def agree(mine: bool) -> bool:
        asked.append(mine)
        return len(asked) < 60

    speaker = Speaker()
    search([("a", PROMPT)], SETTINGS, speaker, right, agree)
    assert len(speaker.rounds) == 59 and not asked[-1] and speaker.rounds[-1] == []

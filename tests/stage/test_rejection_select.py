"""From samples that rules kept to rows: what a judge decides, which of equal ones are taken, what a rewriter loses."""

import re
from collections.abc import Callable, Sequence
from typing import Any

import pytest

from r1mega.config.data import ChatTemplate
from r1mega.config.rejection import HttpJudge, RejectionConfig
from r1mega.data.decontaminate import EvaluationNgrams
from r1mega.record import Problem
from r1mega.stage.rejection_sampler import Candidate, Samples
from r1mega.stage.rejection_select import Finished, Selector, rule_rewrite

TEMPLATE = ChatTemplate()
PROBLEM = Problem("task", "What is it?", "7")
ASK = Problem("free", "Who wrote it?", "Ada Lovelace", scorer="judge")


def text(thought: str, answer: str = "7") -> str:
    return f"<think>{thought}</think><answer>{answer}</answer>"


def samples(problem: Problem, *texts: str, undecided: bool = False, tokens: Sequence[int] = ()) -> Samples:
    """Of the problem; the candidates are numbered from 3, after three that were wrong."""
    found = [Candidate(3 + number, one, tokens[number] if tokens else 10, undecided)
             for number, one in enumerate(texts)]
    return Samples(problem.id, samples=3 + len(texts), right=0 if undecided else len(texts), dropped={"wrong": 3},
                   candidates=found)


@pytest.fixture(autouse=True)
def world(groups: Any) -> None:
    """Selecting is collective: a world of one rank."""


def selector(
    judge: Any = None, rewrite: Any = None, evaluation: Sequence[str] = (), when: str = "undecided", **keys: Any
) -> Selector:
    asked = None if judge is None else HttpJudge(base_url="http://localhost", model="m", when=when)
    config = RejectionConfig(**{"samples": 16, "max_overlap": 1.0, "judge": asked, **keys})
    return Selector(config, TEMPLATE, 0, EvaluationNgrams(evaluation, 4), judge, rewrite)


def finish(chosen: Selector, problem: Problem, *texts: str, **how: Any) -> Finished:
    (finished,) = chosen.finish([(problem, samples(problem, *texts, **how))])
    assert finished.samples == len(finished.kept) + sum(finished.dropped.values())
    return finished


def judging(decide: Callable[[str], str | None], asked: list[str]) -> Callable[[Sequence[str]], list[str | None]]:
    """A judge whose verdict on a prompt is `decide`'s "YES" or "NO"; None is no reply."""

    def ask(prompts: Sequence[str]) -> list[str | None]:
        asked.extend(prompts)
        replies = []
        for prompt in prompts:
            code, verdict = re.search(r"VERDICT (Q\w+): YES", prompt)[1], decide(prompt)
            replies.append(None if verdict is None else f"Let me see.\nVERDICT {code}: {verdict}")
        return replies

    return ask


def test_the_shortest_are_kept_up_to_the_cap_and_equal_ones_once():
    finished = finish(selector(per_problem=2), PROBLEM, text("long"), text("short"), text(" short"), text("longest"),
                      tokens=(7, 5, 6, 9))
    assert [one.sample for one in finished.kept] == [4, 5]
    finished = finish(selector(per_problem=2), PROBLEM, text("long"), text("short"), text("short"), text("longest"),
                      tokens=(7, 5, 6, 9))
    assert [(one.sample, one.tokens) for one in finished.kept] == [(4, 5), (3, 7)]
    assert finished.dropped == {"wrong": 3, "duplicate": 1, "beyond_per_problem": 1}


def test_near_copies_are_one_and_the_order_can_be_random():
    texts = [text(f"one two three four five six seven eight {last}") for last in ("nine", "ten", "x")]
    finished = finish(selector(per_problem=3, max_overlap=0.3, overlap_ngram=2), PROBLEM, *texts)
    assert [one.sample for one in finished.kept] == [3] and finished.dropped["near_duplicate"] == 2
    different = [text(word) for word in "abcdefgh"]
    orders = {tuple(one.sample for one in Selector(
        RejectionConfig(per_problem=8, choose="random"), TEMPLATE, seed, EvaluationNgrams([], 4)).finish(
            [(PROBLEM, samples(PROBLEM, *different))])[0].kept) for seed in (0, 0, 1)}
    assert len(orders) == 2 and all(sorted(order) == list(range(3, 11)) for order in orders)


def test_what_an_evaluation_says_is_contaminated():
    finished = finish(selector(evaluation=["the quick brown fox jumps"]), PROBLEM,
                      text("see, the quick brown fox"), text("a brown fox"))
    assert [one.sample for one in finished.kept] == [4] and finished.dropped["contaminated"] == 1


def test_a_judge_decides_where_no_rule_can_and_sees_the_reply_without_the_reasoning():
    asked: list[str] = []
    judge = judging(lambda prompt: "YES" if "Ada" in prompt.split("[Submission")[1] else
                    None if "silent" in prompt.split("[Submission")[1] else "NO", asked)
    finished = finish(selector(judge, per_problem=9), ASK, text("secret thought", "Ada"), text("b", "Byron"),
                      text("c", "silent"), undecided=True)
    assert [(one.sample, one.judged) for one in finished.kept] == [(3, ("right",))] and finished.right == 1
    assert finished.dropped == {"wrong": 3, "judged_wrong": 1, "no_verdict": 1}
    assert len(asked) == 3 and "Ada Lovelace" in asked[1] and not any("secret" in prompt for prompt in asked)
    assert finish(selector(judge), PROBLEM, text("decided by rules")).kept and len(asked) == 3


def test_a_judge_that_is_always_asked_reads_the_reasoning_of_what_would_be_kept_and_no_more():
    asked: list[str] = []
    judge = judging(lambda prompt: "NO" if "muddle" in prompt else "YES", asked)
    finished = finish(selector(judge, when="always"), PROBLEM, text("muddle"), text("clear and long"),
                      text("never looked at"), tokens=(1, 2, 3))
    assert [(one.sample, one.judged) for one in finished.kept] == [(4, ("readable",))]
    assert finished.dropped == {"wrong": 3, "unreadable": 1, "beyond_per_problem": 1} and len(asked) == 2
    assert "clear and long" in asked[1] and "<think>" not in asked[1]


def test_a_rewriting_that_loses_something_makes_room_for_the_next_sample():
    replies = {"a": None, "b": text("b", "8"), "c": "no tags <answer>7</answer>", "d": text("x y z w v")[:-9],
               "e": "<think>clean e</think>So it is <answer>7</answer>."}

    def rewrite(items: Sequence[tuple[str, str]]) -> list[str | None]:
        return [replies[re.search("<think>(.)", output)[1]] for _, output in items]

    finished = finish(selector(rewrite=rewrite), PROBLEM, *map(text, "abcde"))
    assert [(one.sample, one.response) for one in finished.kept] == [(7, replies["e"])]
    assert finished.dropped == {"wrong": 3, "not_rewritten": 1, "rewriting_changed_answer": 2, "rewriting_lost_form": 1}


def test_what_a_rewriter_adds_from_an_evaluation_or_says_twice_is_dropped():
    replies = iter(["<think>the quick brown fox</think><answer>7</answer>", *[text("same")] * 2])
    chosen = selector(rewrite=lambda items: [next(replies) for _ in items], evaluation=["the quick brown fox"],
                      per_problem=3)
    finished = finish(chosen, PROBLEM, text("a"), text("b"), text("c"))
    assert finished.dropped == {"wrong": 3, "contaminated": 1, "duplicate": 1} and len(finished.kept) == 1


def test_rules_rewrite_every_problem_of_a_wave_and_all_of_it_survives_json():
    problems = [PROBLEM, Problem("task", "What is 3 + 4 =", "7")]
    found = [(problem, samples(problem, text("3+4=7"))) for problem in problems]
    first, second = selector(rewrite=rule_rewrite(TEMPLATE)).finish(found)
    assert first.kept[0].response == "<think>\n3+4=7\n</think>\nThe result is <answer> 7 </answer>"
    assert second.kept[0].response.endswith("3 + 4 = <answer> 7 </answer>")
    assert [Finished.from_json(one.to_json()) for one in (first, second)] == [first, second]
    assert Samples.from_json(found[0][1].to_json()) == found[0][1]

"""Whole problems: verdicts, parsed answers, and which answers are one."""

from collections.abc import Iterator

import pytest

from r1mega.algorithm.vote import answer_classes, majority
from r1mega.config.data import ChatTemplate
from r1mega.config.rl import RewardConfig
from r1mega.record import Problem
from r1mega.reward.scorer import Check, Verdict
from r1mega.reward.suite_judge import Marked, SuiteJudge

HALF = Problem("t", "q", "\\frac{1}{2}", "math", {})


@pytest.fixture(scope="module")
def judge() -> Iterator[SuiteJudge]:
    with SuiteJudge(RewardConfig(workers=1, timeout_s=1), ChatTemplate()) as made:
        yield made


def classes(marked: Marked) -> list[int | None]:
    return answer_classes([mark.answer for mark in marked.marks], lambda i, j: (i, j) in marked.equal)


def test_maths_is_judged_and_wrong_answers_in_different_forms_vote_together(judge: SuiteJudge):
    texts = ["\\boxed{3/4}", "\\boxed{0.5}", "\\boxed{0.75}", "<think>?", "\\boxed{1/2}", "\\boxed{\\frac{3}{4}}"]
    (marked,) = judge.judge([(HALF, texts)])
    assert [mark.right for mark in marked.marks] == [False, True, False, False, True, False]
    assert classes(marked) == [0, 1, 0, None, 1, 0]
    assert majority(classes(marked)) == (0, 3)  # without the equality, the two right ones would win


def test_answers_that_hang_the_checker_cost_themselves_alone_and_are_compared_with_nothing(judge: SuiteJudge):
    tower = "9^{9^{9^{9}}}"
    (marked,) = judge.judge([(HALF, [f"\\boxed{{{tower}}}", "\\boxed{0.5}", f"\\boxed{{{tower}}}", "\\boxed{1/2}"])])
    assert [mark.right for mark in marked.marks] == [False, True, False, True]
    assert marked.marks[0].note.startswith("timed out") and classes(marked) == [0, 1, 0, 1]


def test_of_many_answers_that_hang_each_hangs_once(judge: SuiteJudge, monkeypatch: pytest.MonkeyPatch):
    """Compared with one another, n of them would take n^2 time-outs."""
    asked: list[tuple[str, str]] = []

    def check(checks: list[Check]) -> list[Verdict]:
        asked.extend((one.expected, one.answer) for one in checks)
        return [Verdict(False, "timed out after 1 s of CPU" if "!" in one.answer else "") for one in checks]

    monkeypatch.setattr(judge._pool, "check", check)
    judge.judge([(HALF, [f"\\boxed{{{n}!}}" for n in range(8)] + ["\\boxed{3}", "\\boxed{4}"])])
    assert [pair for pair in asked if pair[0] != HALF.answer] == [("3", "4")] and len(asked) == 11


def test_an_overlong_answer_is_wrong_and_has_no_vote(judge: SuiteJudge):
    (marked,) = judge.judge([(HALF, ["\\boxed{" + "1" * 3000 + "}", "\\boxed{1/2}"])])
    assert marked.marks[0].answer is None and "3000 characters" in marked.marks[0].note
    assert majority(classes(marked)) == (1, 1)


def test_letters_words_and_instructions(judge: SuiteJudge):
    choice = Problem("t", "q", "B", "choice", {"letters": 4})
    fact = Problem("t", "q", "Oslo", "factual", {"accepted": ["Oslo", "Oslo, Norway"]})
    order = Problem("t", "q", "", "instruction", {"constraints": [
        ("punctuation:no_comma", {}), ("change_case:english_lowercase", {})]})
    letters, words, orders = judge.judge([
        (choice, ["Answer: B", "Answer: b", "Answer: E"]), (fact, ["the oslo.", "Oslo", "Bergen, Norway"]),
        (order, ["<think>A, b</think>all low", "Not low", "low, or"])])
    assert [mark.right for mark in letters.marks] == [True, True, False] and classes(letters) == [0, 0, None]
    assert [mark.right for mark in words.marks] == [True, True, False] and classes(words) == [0, 0, 2]
    assert words.marks[2].part == pytest.approx(0.5)  # norway of {oslo, norway} and {bergen, norway}: 2 x 1 / 4
    assert [(mark.right, mark.part) for mark in orders.marks] == [(True, 1.0), (False, 0.5), (False, 0.5)]
    assert orders.marks[1].note == "broken: change_case:english_lowercase" and classes(orders) == [None] * 3


def test_a_problem_is_judged_the_same_whatever_else_is(judge: SuiteJudge):
    texts = ["\\boxed{3/4}", "\\boxed{0.5}", "\\boxed{0.75}"]
    other = Problem("t", "q", "7", "math", {})
    assert judge.judge([(other, ["\\boxed{7}"]), (HALF, texts)])[1] == judge.judge([(HALF, texts)])[0]

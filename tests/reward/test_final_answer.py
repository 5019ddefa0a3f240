"""What counts as the answer of a completion."""

import time

import pytest

from r1mega.config.data import ChatTemplate
from r1mega.reward.final_answer import choice_answer, factual_answer, last_boxed, maths_answer, reply_of

PLAIN = ChatTemplate()
INSIDE = ChatTemplate(prompt="{{ question }}<think>", think_in_prompt=True)


@pytest.mark.parametrize(("text", "answer"), [
    ("\\boxed{4}", "4"), ("first \\boxed{1}, no: \\boxed{\\frac{1}{2}}.", "\\frac{1}{2}"),
    ("\\boxed{\\{1, 2\\}}", "\\{1, 2\\}"), ("\\fbox{7}", "7"), ("\\boxed{{a}{b}} }", "{a}{b}"), ("\\boxed{ x }", "x"),
    ("\\boxed{1} and \\boxed{2", None), ("none", None), ("\\boxed{a\\", None),
])
def test_the_last_box_with_its_braces_matched(text: str, answer: str | None):
    assert last_boxed(text) == answer


@pytest.mark.parametrize(("text", "answer"), [
    ("<think>\\boxed{1}</think>So \\boxed{2}", "2"), ("<think>so \\boxed{2}", None), ("just \\boxed{3}", "3"),
    ("<think>x</think><answer>5</answer>", "5"), ("<think>x</think><answer>so \\boxed{6}</answer>", "6"),
    ("<think>x</think><answer>5", None), ("<think>x</think>The answer is 5.", None), ("5", None), ("", None),
    ("<think>\\boxed{9}</think>", None),
])
def test_a_number_counts_only_where_it_is_marked_after_the_reasoning(text: str, answer: str | None):
    assert maths_answer(text, PLAIN) == answer


def test_reasoning_opened_in_the_prompt_must_be_closed():
    assert maths_answer("\\boxed{4}", INSIDE) is None and maths_answer("x</think>\\boxed{4}", INSIDE) == "4"
    assert reply_of("still thinking", INSIDE) is None


@pytest.mark.parametrize(("text", "letter"), [
    ("so it is B?\nAnswer: C", "C"), ("**Answer: (b)**", "B"), ("Answer: A\nno\nFinal answer: D", "D"),
    ("\\boxed{B}", "B"), ("\\boxed{\\text{C}}", "C"), ("<think>A</think> D.", "D"), ("(A)", "A"), ("B) Paris", "B"),
    ("The answer is B.", "B"), ("The answer is: B", "B"), ("<think>.</think><answer>C</answer>", "C"),
    ("Answer: E", None), ("Answer: Apples", None), ("Answering B is tempting", None), ("I think so", None),
    ("A man walks in", None), ("", None), ("<think>Answer: A", None), ("Answer: B or C", None),
])
def test_the_letter_that_was_chosen(text: str, letter: str | None):
    assert choice_answer(text, PLAIN, 4) == letter


@pytest.mark.parametrize(("text", "answer"), [
    ("<think>Paris?</think>It was there.\nAnswer: Oslo", "Oslo"), ("\\boxed{Oslo}", "Oslo"), ("Oslo", "Oslo"),
    ("<answer>Oslo</answer>", "Oslo"), ("**Answer:** Oslo", "Oslo"), ("<think>Oslo", None), (" ", None),
])
def test_a_short_answer(text: str, answer: str | None):
    assert factual_answer(text, PLAIN) == answer


def test_a_long_hostile_text_takes_no_time():
    begun = time.perf_counter()
    for text in ("\\boxed{" * 50_000, "{" * 300_000, "* " * 150_000 + "answer", "answer " * 50_000, "Answer:" * 50_000,
                 " (" * 150_000, "answer is" + " " * 300_000, "\n" * 300_000, "$[(*" * 80_000):
        for read in (maths_answer, factual_answer, lambda text, template: choice_answer(text, template, 4)):
            read(text, PLAIN)
    assert time.perf_counter() - begun < 5

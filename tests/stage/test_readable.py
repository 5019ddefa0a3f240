"""How an output of R1-Zero reads once it is made readable, and rules about its text."""

import time

import pytest

from r1mega.config.data import ChatTemplate
from r1mega.stage.readable import RuleRewriter, expression_of, repeated_share, steps_of, wrong_equations

TEMPLATE = ChatTemplate()
REWRITE = RuleRewriter(TEMPLATE)


def test_a_good_output_becomes_steps_and_a_summary():
    text = "<think> 3-8=-5 -5+4=-1 </think> <answer> -1 </answer>"
    assert REWRITE("What is 3 - 8 + 4 =", text) == \
        "<think>\n3-8=-5\n-5+4=-1\n</think>\n3 - 8 + 4 = <answer> -1 </answer>"


def test_other_questions_get_a_sentence_or_the_bare_tags():
    text = "<think> It is 4.\nIt is 4.\nSo 4. </think><answer>4</answer>"
    assert REWRITE("How many?", text) == "<think>\nIt is 4.\nSo 4.\n</think>\nThe result is <answer> 4 </answer>"
    assert RuleRewriter(TEMPLATE, sentence=None)("3 + 1 =", text).endswith("</think>\n<answer> 4 </answer>")
    inside = TEMPLATE.model_copy(update={"think_in_prompt": True})
    assert RuleRewriter(inside)("How many?", text).startswith("It is 4.\n")


@pytest.mark.parametrize(("text", "wrong"), [
    ("3-8=-5 -5+4=-1", []), ("3 - 8 = -4, then", ["3 - 8 = -4"]), ("1+2+3=6", []), ("1 + 2 + 3 = 7", []),
    ("2*3=7", ["2*3=7"]), ("7/2=3.5 and 1/3=0.33", []), ("1/3=0.34", ["1/3=0.34"]), ("5/0=1", ["5/0=1"]),
    ("3+4=9-2", []), ("3+4=9 - 2", []), ("0.1+0.2=0.3", []), ("x2+3=9", []), ("9" * 5000 + "+1=2", []),
    ("2+2=5apples", []),
])
def test_equations_of_two_numbers_are_checked_and_longer_ones_left_alone(text: str, wrong: list[str]):
    assert wrong_equations(text) == wrong


def test_hostile_texts_are_read_in_no_time():
    begun = time.perf_counter()
    for text in ("1" * 200_000, "1 " * 100_000, "1+" * 100_000, "-" * 200_000, "1" + " " * 200_000, "1=" * 100_000):
        wrong_equations(text), steps_of(text), repeated_share(text, 8), expression_of(text + "=")
    assert time.perf_counter() - begun < 20


def test_repetition_by_hand():
    """Ten words a b a b a b a b a b have nine pairs, of which two differ: 7 of 9 were there before."""
    assert repeated_share("a b " * 5, 2) == pytest.approx(7 / 9)
    assert repeated_share("a b c d", 2) == 0 and repeated_share("a", 8) == 0
    assert repeated_share("五" * 100, 8) > 0.9


def test_steps_are_a_line_each():
    assert steps_of("3-8=-5 -5+4=-1") == ["3-8=-5", "-5+4=-1"]
    assert steps_of("First 3-8=-5, then -5+4=-1.") == ["First 3-8=-5, then -5+4=-1."]
    assert steps_of("a\n\n a \nb\na") == ["a", "b", "a"]
    assert expression_of("Compute: 2 * (3 + 4) = ?") == "2 * (3 + 4)" and expression_of("x + 1 = 4, x?") is None
    assert expression_of("what =") is None

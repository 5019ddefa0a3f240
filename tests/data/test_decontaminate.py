"""Texts that evaluations ask, and texts that say the same twice."""

import random

import pytest

from r1mega.data.decontaminate import EvaluationNgrams
from r1mega.data.deduplicate import Distinct
from r1mega.data.ngrams import ngrams, words

EXAM = "A farmer has 17 sheep, and all but 9 of them run away over the hill at night. How many are left?"


def test_words_are_lower_case_with_signs_of_arithmetic_and_characters_where_there_are_no_spaces():
    assert words("What IS 3-8+4, naïve?") == ["what", "is", "3", "-", "8", "+", "4", "naïve"]
    assert words("结果是 x²。") == ["结", "果", "是", "x²"]
    assert words("สวัสดี") and len(words("สวัสดี")) > 3 and words("안녕 세상") == ["안녕", "세상"]
    assert words("... !? ()") == [] and list(ngrams(["a", "b", "c"], 2)) == [("a", "b"), ("b", "c")]
    assert list(ngrams(["a"], 2)) == []


def test_thirteen_words_in_a_row_are_contamination_and_twelve_are_not():
    found = EvaluationNgrams([EXAM], 13)
    inside = words(EXAM)
    assert len(inside) == 22 and len(found) == 22 - 13 + 1
    for size, shared in ((12, False), (13, True)):
        text = " ".join(["well", *inside[3:3 + size], "indeed"])
        assert found.shares(text) is shared is found.is_asked(text)
    assert found.shares(EXAM.upper().replace(",", ";")) and not found.shares("")


def test_characters_count_where_a_script_has_no_spaces():
    found = EvaluationNgrams(["农夫有十七只羊除了九只以外都跑了还剩几只"], 13)
    assert found.shares("题目：除了九只以外都跑了还剩几只？") and not found.shares("九只以外都跑了还剩几只")


def test_a_short_question_is_looked_for_as_a_whole_and_not_inside_of_solutions():
    found = EvaluationNgrams(["What is 3 + 4?"], 13)
    assert found.is_asked("what is 3+4") and not found.is_asked("What is 3 - 4?")
    assert not found.is_asked("What is 3 + 4 - 1?") and not found.shares("what is 3 + 4? it is 7")


def test_how_problems_are_put_is_no_contamination():
    """Sixty questions share the nine words of a form with the evaluation's; only the sums tell them apart."""
    form = "State the final answer to the following arithmetic problem: {} ="
    train = [form.format(f"{a} + {b} - 1 + 6") for a in range(10) for b in range(6)]
    heldout = form.format("4 + 7 - 12 + 63 - 8 + 90")  # twelve words of its own, the last sign among them
    careless, careful = EvaluationNgrams([heldout], 9), EvaluationNgrams([heldout], 9, train)
    assert all(map(careless.is_asked, train)) and not any(map(careful.is_asked, train))
    # Of 13 runs of nine words, those from the sixth on have five of their own.
    assert len(careless) == 13 and len(careful) == 8 and careful.is_asked(heldout)
    assert careful.shares("so 4 + 7 - 12 + 63 - 8 + 90 it is") and not any(map(careful.shares, train))


def test_a_long_text_takes_time_linear_in_its_length():
    import time
    found, text = EvaluationNgrams([EXAM], 13), "sheep run away " * 200_000
    begun = time.process_time()
    assert not found.shares(text)
    assert time.process_time() - begun < 10


def test_equal_and_nearly_equal_texts_are_taken_once():
    """Of a b c d e f and a b c d e g the pairs are 5 each, 4 shared, 6 different: 4/6 of them."""
    distinct = Distinct(2, 0.66)
    assert distinct.take("a b c d e f") is None
    assert distinct.take("a b  c\nd e f") == "duplicate" and distinct.take("A, b c d e f!") == "near_duplicate"
    assert distinct.take("a b c d e g") == "near_duplicate" and distinct.take("a b c x y z") is None
    loose = Distinct(2, 0.67)
    assert loose.take("a b c d e f") is None and loose.take("a b c d e g") is None
    assert loose.take("!") is None and loose.take("?") == "near_duplicate"  # no words at all, both
    assert Distinct(5, 1.0).take("a b") is None


@pytest.mark.parametrize("seed", range(3))
def test_overlap_is_what_a_plain_count_says(seed: int):
    rng = random.Random(seed)
    one, other = ([rng.choice("abc") for _ in range(12)] for _ in range(2))
    pairs = [{tuple(text[at:at + 2]) for at in range(11)} for text in (one, other)]
    share = len(pairs[0] & pairs[1]) / len(pairs[0] | pairs[1])
    for limit, expected in ((share - 1e-6, "near_duplicate"), (share, None)):
        distinct = Distinct(2, limit)
        distinct.take(" ".join(one))
        assert distinct.take(" ".join(other)) == expected or one == other

"""Exact match and F1 of short answers, as SQuAD's evaluation has them."""

import pytest

from r1mega.reward.factual import is_exact_match, normal_words, word_f1


@pytest.mark.parametrize(("accepted", "answer", "right"), [
    ("the Cat", "cat.", True), ("1,000", "1000", True), ("3.0", "3", True), ("-3", "3", False), ("3.5", "35", False),
    ("$20", "20", True), ("Mary-Ann", "mary ann", True), ("Ｏｓｌｏ", "oslo", True), ("Oslo", "Oslo, Norway", False),
    ("The Who", "who", True), ("cat", "the", False), ("cat", "", False), ("a", "the", False), ("1e999", "1e999", True),
])
def test_words_are_compared_without_what_says_nothing(accepted: str, answer: str, right: bool):
    assert is_exact_match([accepted], answer) is right


def test_any_accepted_answer_will_do():
    assert is_exact_match(["95", "95 minutes"], "95 minutes.") and not is_exact_match(["95"], "95 minutes")


def test_f1_by_hand():
    # Shared: red, fox (2); expected 3 words, given 4: 2 x 2 / 7.
    assert word_f1(["quick red fox"], "the red fox runs home") == pytest.approx(4 / 7)
    assert word_f1(["x", "red fox"], "red fox") == 1.0 and word_f1(["x"], "y") == 0.0
    # A word counts as often as both have it: "no no no" against "no": 2 x 1 / 4.
    assert word_f1(["no"], "no no no") == pytest.approx(0.5)


def test_numbers_of_any_length_are_read():
    assert normal_words("9" * 400) == ["9" * 400]

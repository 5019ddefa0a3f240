"""Each checkable instruction with a reply that keeps it and one that just does not."""

import time
from typing import Any

import pytest

from r1mega.reward.constraints import CONSTRAINTS, keeps

CASES: list[tuple[str, dict[str, Any], str, str]] = [
    ("keywords:existence", {"keywords": ["red fox", "Sea"]}, "The Red Fox at sea.", "The red foxes at sea."),
    ("keywords:forbidden_words", {"forbidden_words": ["cat"]}, "A category.", "A CAT."),
    ("keywords:frequency", {"keyword": "go", "frequency": 2, "relation": "at least"}, "Go, go!", "Go, going!"),
    ("keywords:frequency", {"keyword": "go", "frequency": 2, "relation": "less than"}, "Go, going!", "go go"),
    ("keywords:letter_frequency", {"letter": "E", "let_frequency": 3, "let_relation": "at least"}, "Eerie", "ear hem"),
    ("length_constraints:number_words", {"relation": "at least", "num_words": 4},
     "Don't stop at once", "It is well-kept"),
    ("length_constraints:number_words", {"relation": "less than", "num_words": 4},
     "one two three", "one two three four"),
    ("length_constraints:number_sentences", {"relation": "at least", "num_sentences": 3},
     "A b. C d? And e", "Pi is 3.14. Yes."),
    ("length_constraints:number_paragraphs", {"num_paragraphs": 2}, "a\n***\nb", "a\n\nb"),
    ("length_constraints:number_paragraphs", {"num_paragraphs": 2}, "***\na\n***\nb", "a\n***\n\n***\nb"),
    ("length_constraints:nth_paragraph_first_word", {"num_paragraphs": 2, "nth_paragraph": 2, "first_word": "so"},
     "a b\n\n\"So it is", "so\n\nit is"),
    ("detectable_content:number_placeholders", {"num_placeholders": 2}, "[name], [day]", "[name], []"),
    ("detectable_content:postscript", {"postscript_marker": "P.S."}, "Bye.\nP.S. Me", "Bye. PS Me"),
    ("detectable_format:number_bullet_lists", {"num_bullets": 2}, "* a\n - b", "* a\n* b\n* c"),
    ("detectable_format:number_highlighted_sections", {"num_highlights": 2}, "*a* and **b c**", "*a* and **  **"),
    ("detectable_format:multiple_sections", {"section_spliter": "Section", "num_sections": 2},
     "Section 1\na\n**Section 2**\nb", "Section 1\na\nmy Section 2"),
    ("detectable_format:constrained_response", {}, "My answer is maybe.", "Maybe."),
    ("detectable_format:json_format", {}, "```json\n{\"a\": [1]}\n```", "{\"a\": 1} there"),
    ("detectable_format:title", {}, "<<the sea>>\nwaves", "<<  >>\nwaves"),
    ("combination:two_responses", {}, "one******two", "one******one"),
    ("combination:repeat_prompt", {"prompt_to_repeat": "Say it. "}, "Say it.\nIt.", "It. Say it."),
    ("startend:end_checker", {"end_phrase": "that is all."}, "So.\nThat is all.", "That is all. So."),
    ("startend:quotation", {}, "\"Well.\"", "\"Well\"."),
    ("change_case:capital_word_frequency", {"capital_frequency": 2, "capital_relation": "at least"},
     "NO, NEVER x", "NO x"),
    ("change_case:english_capital", {}, "ALL OF 3!", "ALL OF It"),
    ("change_case:english_lowercase", {}, "all of 3!", "all of It"),
    ("punctuation:no_comma", {}, "a; b", "a, b"),
]


@pytest.mark.parametrize(("name", "arguments", "kept", "broken"), CASES)
def test_kept_and_just_not_kept(name: str, arguments: dict[str, Any], kept: str, broken: str):
    assert keeps(name, arguments, kept) is True
    assert keeps(name, arguments, broken) is False
    assert keeps(name, arguments, " \n") is False


def test_every_constraint_has_a_case():
    assert {name for name, *_ in CASES} == set(CONSTRAINTS)


def test_what_cannot_be_checked_is_not_taken_as_kept():
    with pytest.raises(KeyError):
        keeps("language:response_language", {"language": "kn"}, "x")
    with pytest.raises(KeyError):
        keeps("length_constraints:number_words", {"relation": "exactly", "num_words": 1}, "x")


def test_long_hostile_replies_take_no_time():
    begun = time.perf_counter()
    for text in ("\n" * 200_000, "*" * 200_000, "**a" * 70_000, "**" + "a" * 200_000, "<<" + "a" * 200_000,
                 "<" * 200_000, "[" * 200_000, "- " * 100_000, "a-" * 100_000, ". " * 100_000,
                 "a" + " " * 200_000):
        for name, arguments, _, _ in CASES:
            keeps(name, arguments, f"x{text}x")
    assert time.perf_counter() - begun < 15

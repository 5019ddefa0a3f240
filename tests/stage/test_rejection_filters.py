"""Which samples rules keep: each is dropped for the first thing that is wrong with it."""

import pytest

from r1mega.config.data import ChatTemplate
from r1mega.config.rejection import FilterConfig
from r1mega.record import Completion, Score
from r1mega.reward.format import is_well_formed
from r1mega.stage.rejection_filters import clutter_share, filters_of, first_failed, longest_paragraph, sampled

TEMPLATE = ChatTemplate()
GOOD = "<think> 3-8=-5 -5+4=-1 </think> <answer> -1 </answer>"
EVERYTHING = FilterConfig(max_tokens=100, max_paragraph_words=30)


def reason(
    text: str, right: bool = True, finish: str = "stop", tokens: int = 5, language: float = 1.0,
    config: FilterConfig = EVERYTHING,
) -> str | None:
    parts = {"accuracy": float(right), "format": float(is_well_formed(text, TEMPLATE)), "language": language}
    completion = Completion([0] * tokens, [0.0] * tokens, finish)
    one = sampled(text, TEMPLATE, completion, Score(2.0, parts, {}), undecided=False)
    return first_failed(one, filters_of(config, with_language=True))


def thinking(text: str) -> str:
    return f"<think> {text} </think> <answer> -1 </answer>"


def test_a_good_output_passes_everything():
    assert reason(GOOD) is None
    assert [one.name for one in filters_of(EVERYTHING, with_language=True)] == [
        "complete", "length", "form", "reasoning", "correct", "language", "repetition", "clutter", "paragraphs",
        "equations"]
    assert "language" not in [one.name for one in filters_of(EVERYTHING, with_language=False)]


@pytest.mark.parametrize(("failed", "expected"), [
    (reason(GOOD, right=False), "wrong"), (reason(GOOD, finish="length"), "cut"),
    (reason(GOOD, tokens=101), "overlong"),
    (reason("<think> x </think>"), "malformed"), (reason(thinking("  ")), "no_reasoning"),
    (reason(GOOD, language=0.89), "mixed_language"), (reason(GOOD, language=0.9), None),
    (reason(thinking("again and " * 20)), "repetitive"), (reason(thinking("3-8=-4 -4+3=-1")), "wrong_equation"),
    (reason(thinking("so\n```\nprint(3 - 8 + 4)\n```\nit is")), "cluttered"),
    (reason(thinking(" ".join(f"w{number}" for number in range(31)))), "long_paragraph"),
    (reason(thinking(" ".join(f"w{number}" for number in range(30)))), None),
])
def test_every_bad_output_is_dropped_for_its_own_reason(failed: str | None, expected: str | None):
    assert failed == expected


def test_what_is_not_asked_is_not_a_reason():
    nothing = FilterConfig(correct=False, form=False, complete=False, max_repetition=1.0, min_language=0.0,
                           max_clutter=1.0, equations=False)
    assert filters_of(nothing, with_language=True) == []
    assert reason("again and " * 20, right=False, finish="length", tokens=10**6, language=0.0, config=nothing) is None


def test_clutter_by_hand():
    """Of `ab```cd``` ` twelve characters, eight are in the block or its marks; an open block goes on to the end."""
    assert clutter_share("ab ``` cd ``` ef") == pytest.approx(8 / 12)
    assert clutter_share("ab ``` cd") == pytest.approx(5 / 7) and clutter_share("a b\nc") == 0 == clutter_share("")
    assert clutter_share("ab\u200b\ufffd") == pytest.approx(2 / 4)


def test_paragraphs_end_at_empty_lines_or_else_at_lines():
    assert longest_paragraph("one two\nthree\n\nfour") == 3 and longest_paragraph("one two\nthree") == 2
    assert longest_paragraph("首先 3 加 4") == 5 and longest_paragraph("") == 0

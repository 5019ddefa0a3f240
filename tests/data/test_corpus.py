"""Documents of the stand-in for a base model."""

import random
from collections import Counter

import pytest

from r1mega.config import UserError
from r1mega.config.data import ChatTemplate
from r1mega.data.corpus import check_styles, document
from r1mega.record import Problem

TAGS = ChatTemplate()
SUM = Problem(task="chain_sum", question="State the final answer to the following arithmetic problem: 3 - 8 + 4 =",
              answer="-1")
OTHER = Problem(task="spell_backward", question="Spell this word backward: sun", answer="nus")


def test_a_worked_solution_shows_every_step_and_the_right_answer():
    text = document(SUM, {"worked": 1.0}, TAGS, random.Random(0))
    assert text == "<think> 3-8=-5 -5+4=-1 </think> <answer> -1 </answer>"


def test_a_slip_is_carried_on_to_the_answer():
    texts = {document(SUM, {"sloppy": 1.0}, TAGS, random.Random(seed)) for seed in range(60)}
    for text in texts:
        first, second = text.split("</think>")[0].split()[1:3]
        carried, result = first.split("=")[1], second.split("=")[1]
        assert second.startswith(f"{carried}+4=") and f"<answer> {result} </answer>" in text
    assert any("<answer> -1 <" not in text for text in texts)


def test_a_guess_has_no_steps_and_is_near():
    for seed in range(30):
        text = document(SUM, {"guess": 1.0}, TAGS, random.Random(seed))
        assert text.startswith("<think> </think> <answer> ") and abs(int(text.split()[3]) + 1) <= 9


def test_chatter_never_answers():
    for seed in range(30):
        assert "<answer>" not in document(SUM, {"chatter": 1.0}, TAGS, random.Random(seed))


def test_shares_are_kept():
    styles = {"worked": 0.25, "guess": 0.75}
    worked = Counter("=" in document(SUM, styles, TAGS, random.Random(seed)) for seed in range(2000))[True]
    assert 430 < worked < 570  # 500, and 3.6 standard deviations of sqrt(2000 x 0.25 x 0.75) = 19


def test_a_task_without_steps_states_its_answer():
    assert document(OTHER, {"worked": 1.0}, TAGS, random.Random(0)) == "<think> </think> <answer> nus </answer>"


@pytest.mark.parametrize(("styles", "said"), [({"neat": 1.0}, "no such style"), ({"worked": 0.0}, "must be positive"),
                                              ({}, "is empty")])
def test_wrong_styles_are_refused(styles, said):
    with pytest.raises(UserError, match=said):
        check_styles(styles)

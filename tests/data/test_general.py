"""The generated general requests: their rule, their replies, and judgements made of them."""

import random
from collections import Counter

import pytest

from r1mega.config import UserError
from r1mega.config.data import ChatTemplate, GeneralSource
from r1mega.config.preference import GeneralPreferences
from r1mega.data.corpus import document
from r1mega.data.general_problems import GRADES, REQUESTS, all_requests, general_problems, general_reply
from r1mega.data.general_rule import helpfulness, is_harmful
from r1mega.data.preference_encode import as_reply, shown_reply, summary
from r1mega.data.preference_load import general_judgements
from r1mega.record import Problem
from r1mega.reward.format import is_well_formed

TEMPLATE = ChatTemplate()
OPEN = ChatTemplate(prompt="{{ question }} <think>", think_in_prompt=True)


def request(question: str) -> Problem:
    return next(problem for problem in all_requests() if problem.question == question)


@pytest.mark.parametrize(("question", "said", "worth"), [
    ("greet Ana", "<answer> hello Ana </answer>", 1.0),
    ("greet Ana", "hello", 0.75),  # nobody named
    ("greet Ana", "hello Tom", 0.75), ("greet Ana", "hello Ana Tom", 0.75),  # somebody else
    ("greet Ana", "thanks Ana", 0.5), ("greet Ana", "", 0.0), ("greet Ana", " <answer> </answer>", 0.0),
    ("greet Ana", "hello Ana hello Ana hello Ana hello", 0.75),  # seven words
    ("greet Ana", "x x x x x x x x", 0.0),
    ("give Ana a fruit", "a pear for Ana", 1.0), ("give Ana a fruit", "a cat for Ana", 0.5),
    ("insult Ana", "no, Ana is kind", 1.0), ("insult Ana", "Ana is ugly", 0.5),
    ("insult Ana", "no, Ana is kind, but stupid", 0.5),
])
def test_helpfulness_is_half_the_deed_a_quarter_the_name_and_a_quarter_brevity(question: str, said: str, worth: float):
    assert helpfulness(request(question), said) == worth


def test_harm_is_looked_for_in_the_whole_reply():
    assert is_harmful("<think> Ana is mean </think> <answer> hello Ana </answer>")
    assert not is_harmful("<think> this is to insult Ana </think> <answer> no, Ana is kind </answer>")


def test_replies_are_short_well_formed_and_of_uneven_worth():
    rng = random.Random(1)
    for problem in rng.sample(list(all_requests()), 40):
        for grade in GRADES:
            reply = general_reply(problem, grade, TEMPLATE, rng)
            assert is_well_formed(reply, TEMPLATE) and is_well_formed(reply, TEMPLATE, "summary")
            assert is_harmful(reply) == grade.startswith("harmful")
            worth = helpfulness(problem, summary(reply, TEMPLATE))
            assert (worth == 1) == (grade in ("good", "harmful thought")), reply


def test_a_source_has_as_many_of_each_kind_and_says_when_there_are_no_more():
    problems = general_problems(GeneralSource(size=100), "data.sources[0]")
    assert Counter(problem.metadata["request"] for problem in problems) == dict.fromkeys(REQUESTS, 25)
    assert len({problem.id for problem in problems}) == 100
    assert {problem.scorer for problem in problems} == {"preference"}
    assert problems != general_problems(GeneralSource(size=100, seed=1), "data.sources[0]")
    with pytest.raises(UserError, match=r"data\.sources\[3\]: size=100000, but there are only"):
        general_problems(GeneralSource(size=100_000), "data.sources[3]")


def test_base_models_read_good_replies_in_worked_documents_only():
    problem, rng = request("give Ana a fruit"), random.Random(0)
    texts = {style: [document(problem, {style: 1.0}, TEMPLATE, rng) for _ in range(60)]
             for style in ("worked", "sloppy", "guess", "chatter")}
    worth = {style: [helpfulness(problem, summary(text, TEMPLATE)) * (not is_harmful(text)) for text in found]
             for style, found in texts.items()}
    assert set(worth["worked"]) == {1.0} and max(worth["guess"]) < 1 and set(worth["chatter"]) == {0.0}
    assert {1.0, 0.75} <= set(worth["sloppy"])


def test_judgements_follow_the_rule_are_all_different_and_leave_held_out_questions_alone():
    source, heldout = GeneralPreferences(name="g", size=300), {"greet Ana", "insult Tom"}
    pairs = list(general_judgements(source, "pairwise", TEMPLATE, heldout, "here"))
    labels = list(general_judgements(source, "pointwise", TEMPLATE, heldout, "here"))
    assert len({one.said for one in pairs}) == len({one.said for one in labels}) == 300
    assert not heldout & {one.prompt for one in (*pairs, *labels)}
    for one in pairs:
        better, worse = (helpfulness(request(one.prompt), summary(reply, TEMPLATE)) for reply in one.replies)
        assert better > worse and one.safe is None
    assert all(one.safe == (not is_harmful(one.replies[0])) for one in labels)
    assert 100 < sum(one.safe for one in labels) < 280


@pytest.mark.parametrize(("reply", "template", "seen"), [
    ("<think> a </think> b ", TEMPLATE, "b"), ("b", TEMPLATE, "b"), ("<think> a", TEMPLATE, ""),
    ("<think> a </think> b </think> c", TEMPLATE, "c"), (" a </think> b", OPEN, "b"), (" a", OPEN, ""),
])
def test_the_summary_is_what_follows_the_reasoning(reply: str, template: ChatTemplate, seen: str):
    assert summary(reply, template) == seen


def test_where_the_prompt_opens_the_reasoning_a_reply_without_any_starts_with_its_end():
    assert as_reply("b", OPEN) == "</think>b" and as_reply("b", TEMPLATE) == "b"
    assert as_reply("<think> a </think> b", OPEN) == " a </think> b"
    assert shown_reply("pairwise", as_reply("b", OPEN), OPEN) == shown_reply("pairwise", " a </think> b", OPEN)
    assert shown_reply("pairwise", "b", OPEN) == "</think>"
    assert shown_reply("pointwise", "<think> a </think> b", TEMPLATE) == "<think> a </think> b"

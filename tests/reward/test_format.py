"""The format reward and the text of an answer."""

import time

import pytest

from r1mega.config.data import ChatTemplate
from r1mega.reward import extract_answer, is_well_formed
from r1mega.stage.readable import RuleRewriter

PLAIN = ChatTemplate()
INSIDE = ChatTemplate(prompt="{{ question }}<think>", think_in_prompt=True)

WELL_FORMED = [
    "<think>2+2=4</think><answer>4</answer>",
    "  \n<think>\n</think>\n\t <answer></answer>\n ",
    "<think>a < b > c </thinking></think> <answer> x </answer>",
]
ILL_FORMED = {
    "nothing": "",
    "no tags": "4",
    "no thinking": "<answer>4</answer>",
    "no answer": "<think>4</think>",
    "cut in the answer": "<think>4</think><answer>4",
    "cut in the thinking": "<think>4",
    "answer first": "<answer>4</answer><think>4</think>",
    "answer inside the thinking": "<think><answer>4</answer></think>",
    "tags crossed": "<think>1<answer>2</think>3</answer>",
    "closed before opened": "</think>1<think><answer>2</answer>",
    "two answers": "<think>1</think><answer>1</answer><answer>2</answer>",
    "thought twice": "<think>1</think><think>2</think><answer>2</answer>",
    "a tag repeated inside": "<think>1<think>2</think><answer>2</answer>",
    "text before": "well <think>1</think><answer>2</answer>",
    "text between": "<think>1</think> so <answer>2</answer>",
    "text after": "<think>1</think><answer>2</answer>.",
    "wrong case": "<THINK>1</THINK><answer>2</answer>",
    "a zero-width space between": "<think>1</think>\u200b<answer>2</answer>",
    "a NUL after": "<think>1</think><answer>2</answer>\x00",
}
SUMMARIES = [
    "<think>2+2=4</think><answer>4</answer>",
    "<think>2+2=4</think>\nTwo and two make <answer>4</answer>.",
    "\n<think>\n3-8=-5\n-5+4=-1\n</think>\n3 - 8 + 4 = <answer> -1 </answer>\nas was asked.\n",
    "<think>先算 3-8</think>\n结果是 <answer>-1</answer>。",
]
NO_SUMMARIES = {
    **{name: text for name, text in ILL_FORMED.items() if not name.startswith(
        ("text between", "text after", "a zero-width", "a NUL"))},
    "nothing thought": "<think></think>The result is <answer>4</answer>",
    "only white space thought": "<think> \n\t</think>The result is <answer>4</answer>",
    "only what cannot be seen is thought": "<think>\u200b\u2060\x00</think>The result is <answer>4</answer>",
    "nothing answered": "<think>4</think>The result is <answer> </answer>",
    "nothing seen is answered": "<think>4</think>The result is <answer>\u200b</answer>",
    "thought on after the answer": "<think>4</think><answer>4</answer><think>or 5",
    "the end of the thinking hidden behind the answer": "<think>4<answer>4</answer></think>",
    "a second end of the thinking": "<think>4</think>It is</think><answer>4</answer>",
    "the answer offered twice, once in the thinking": "<think>is it <answer>4</answer>?</think><answer>4</answer>",
    "answers to choose from": "<think>4</think>It is <answer>4</answer> or <answer>5</answer>",
    "the answer opened twice": "<think>4</think>It is <answer>5<answer>4</answer>",
    "the answer closed before it is opened": "<think>4</think>It is </answer>4<answer>",
    "text before the thinking, for the reader": "The result is 4. <think>2+2</think><answer>4</answer>",
    "no answer block": "<think>4</think>The result is 4.",
}


@pytest.mark.parametrize("text", WELL_FORMED)
def test_reasoning_then_answer_is_well_formed(text):
    assert is_well_formed(text, PLAIN)


@pytest.mark.parametrize("text", ILL_FORMED.values(), ids=ILL_FORMED.keys())
def test_anything_else_is_not(text):
    assert not is_well_formed(text, PLAIN)


def test_a_completion_of_a_prompt_that_opens_the_thinking_starts_inside_it():
    assert is_well_formed("2+2=4</think> <answer>4</answer>", INSIDE)
    assert not is_well_formed("<think>2+2=4</think> <answer>4</answer>", INSIDE)
    assert not is_well_formed("<answer>4</answer></think>", INSIDE)
    assert not is_well_formed("2+2=4 <answer>4</answer>", INSIDE)


@pytest.mark.parametrize("text", SUMMARIES)
def test_a_summary_for_the_reader_has_the_answer_block_somewhere_in_it(text):
    assert is_well_formed(text, PLAIN, "summary")
    assert is_well_formed(text.strip().removeprefix("<think>"), INSIDE, "summary")
    assert not is_well_formed(text.strip().removeprefix("<think>"), PLAIN, "summary")


@pytest.mark.parametrize("text", NO_SUMMARIES.values(), ids=NO_SUMMARIES.keys())
def test_anything_else_is_no_summary(text):
    assert not is_well_formed(text, PLAIN, "summary")
    assert not is_well_formed(text.removeprefix("<think>"), INSIDE, "summary")


@pytest.mark.parametrize("template", [PLAIN, INSIDE], ids=["plain", "inside"])
@pytest.mark.parametrize("question", ["What is 2 + 2 =", "How many are two and two?"])
def test_cold_start_data_as_the_rules_write_it_has_the_form_of_a_summary_alone(template, question):
    readable = RuleRewriter(template)(question, "<think>2+2=4</think><answer>4</answer>")
    assert is_well_formed(readable, template, "summary") and not is_well_formed(readable, template)
    assert extract_answer(readable, template) == "4"


def test_other_tags_count_where_the_template_names_them():
    template = ChatTemplate(think_open="[[", think_close="]]", answer_open="(*", answer_close="*)")
    assert is_well_formed("[[1]] (* 2 *)", template) and extract_answer("[[1]] (* 2 *)", template) == "2"
    assert not is_well_formed(WELL_FORMED[0], template)


def test_the_last_answer_block_counts_and_an_open_one_takes_it_back():
    assert extract_answer("<answer>1</answer> no, <answer>\n2 </answer>", PLAIN) == "2"
    assert extract_answer("<answer>1</answer> no, <answer>2", PLAIN) is None
    assert extract_answer("1", PLAIN) is None
    assert extract_answer("</answer>1<answer>", PLAIN) is None
    assert extract_answer("<answer></answer>", PLAIN) == ""


@pytest.mark.parametrize(
    "unit", ["<think>", "</think>", "<answer>", "</answer>", "<think></think><answer></answer>", "<", " "]
)
def test_four_megabytes_of_tags_take_no_time(unit):
    text = unit * (4_000_000 // len(unit))
    start = time.process_time()
    is_well_formed(text, PLAIN)
    is_well_formed(text, PLAIN, "summary")
    extract_answer(text, PLAIN)
    assert time.process_time() - start < 1.0

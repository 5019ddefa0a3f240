"""The format reward and the text of an answer."""

import time

import pytest

from r1mega.config.data import ChatTemplate
from r1mega.reward import extract_answer, is_well_formed

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
    extract_answer(text, PLAIN)
    assert time.process_time() - start < 1.0

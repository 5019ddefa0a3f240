"""A language model as rewriter: what it is asked, and what of its reply is taken."""

from collections.abc import Sequence

from r1mega.config.data import ChatTemplate
from r1mega.stage.model_rewriter import ModelRewriter

TEMPLATE = ChatTemplate()
GOOD = "<think> 3-8=-5 -5+4=-1 </think> <answer> -1 </answer>"


def rewritten(template: ChatTemplate, *replies: str | None) -> tuple[list[str | None], list[str]]:
    asked: list[str] = []

    def ask(prompts: Sequence[str]) -> list[str | None]:
        asked.extend(prompts)
        return list(replies)

    return ModelRewriter(ask, template)([(f"question {number}", GOOD) for number in range(len(replies))]), asked


def test_all_outputs_are_asked_about_at_once_with_their_reasoning_and_result():
    found, asked = rewritten(TEMPLATE, "<think> clean </think> So <answer>-1</answer> ", None)
    assert found == ["<think> clean </think> So <answer>-1</answer>", None]
    assert "question 1" in asked[1] and "3-8=-5 -5+4=-1" in asked[1] and "<answer> -1 </answer>" in asked[1]


def test_braces_in_an_output_are_only_text():
    asked: list[str] = []

    def ask(prompts: Sequence[str]) -> list[str | None]:
        asked.extend(prompts)
        return [None]

    ModelRewriter(ask, TEMPLATE)([("{question}?", "<think> {reasoning} {0} </think><answer>{answer}</answer>")])
    assert "{question}?" in asked[0] and "{reasoning} {0}" in asked[0] and "<answer> {answer} </answer>" in asked[0]


def test_a_model_that_thinks_before_it_writes_is_taken_at_its_last_word():
    reply = "<think> how do I put it? </think> <think> clean </think> So <answer>-1</answer>"
    assert rewritten(TEMPLATE, reply)[0] == ["<think> clean </think> So <answer>-1</answer>"]
    inside = TEMPLATE.model_copy(update={"think_in_prompt": True})
    assert rewritten(inside, reply)[0] == ["clean </think> So <answer>-1</answer>"]
    assert rewritten(inside, "clean </think> So <answer>-1</answer>")[0] == ["clean </think> So <answer>-1</answer>"]

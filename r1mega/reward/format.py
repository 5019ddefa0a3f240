"""The shape of a completion: reasoning in think tags, then the result in answer tags, alone or within a summary.

Searches for fixed strings only (no regular expression), so any text takes time linear in its length.
"""

from r1mega.config.data import ChatTemplate
from r1mega.config.rl import Form


def is_well_formed(completion: str, template: ChatTemplate, form: Form = "answer") -> bool:
    """Whether a completion is `<think>…</think>` and then what `form` asks for, each tag exactly once and in order, and
    nothing but white space before. With `think_in_prompt` it starts inside the reasoning.

    answer: `<answer>…</answer>`, with only white space around it. summary: a text for the reader, with the answer block
    anywhere in it; reasoning and answer are not empty.
    """
    tags = [template.think_open, template.think_close, template.answer_open, template.answer_close]
    if template.think_in_prompt:
        if template.think_open in completion:
            return False
        tags = tags[1:]
    if any(completion.count(tag) != 1 for tag in tags):
        return False
    starts = [completion.find(tag) for tag in tags]
    if starts != sorted(starts):
        return False
    if not template.think_in_prompt and completion[:starts[0]].strip():
        return False
    (thought, answer), between = _inside(completion, starts, tags), completion[starts[-3] + len(tags[-3]):starts[-2]]
    if form == "summary":
        return _is_visible(thought) and _is_visible(answer)
    return not between.strip() and not completion[starts[-1] + len(tags[-1]):].strip()


def _inside(completion: str, starts: list[int], tags: list[str]) -> tuple[str, str]:
    """The texts of the reasoning and of the answer block."""
    begin = starts[0] + len(tags[0]) if len(tags) == 4 else 0
    return completion[begin:starts[-3]], completion[starts[-2] + len(tags[-2]):starts[-1]]


def _is_visible(text: str) -> bool:
    """Whether a reader sees anything of it: neither white space nor zero-width characters are seen."""
    return any(c.isprintable() and not c.isspace() for c in text)


def extract_answer(completion: str, template: ChatTemplate) -> str | None:
    """The text of the last answer block, stripped; None if there is no complete one.

    The last `answer_open` counts even when an earlier block was complete: an answer taken back is no answer.
    """
    start = completion.rfind(template.answer_open)
    if start < 0:
        return None
    start += len(template.answer_open)
    end = completion.find(template.answer_close, start)
    return completion[start:end].strip() if end >= 0 else None


def reasoning(completion: str, template: ChatTemplate) -> str:
    """The text between the first `think_open` (the start, with `think_in_prompt`) and the last `think_close` (the end,
    where that is missing: a completion that was cut is still in some language); "" where nothing was opened."""
    start = 0 if template.think_in_prompt else completion.find(template.think_open)
    if start < 0:
        return ""
    start += 0 if template.think_in_prompt else len(template.think_open)
    end = completion.rfind(template.think_close, start)
    text = completion[start:end] if end >= 0 else completion[start:]
    return text.replace(template.think_open, "\n").replace(template.think_close, "\n")

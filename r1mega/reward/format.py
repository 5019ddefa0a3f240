"""The shape of a completion: reasoning in think tags, then the result in answer tags.

Searches for fixed strings only (no regular expression), so any text takes time linear in its length.
"""

from r1mega.config.data import ChatTemplate


def is_well_formed(completion: str, template: ChatTemplate) -> bool:
    """Whether a completion is `<think>…</think>` and then `<answer>…</answer>`: each tag exactly once, in
    this order, and only white space before, between and after. With `think_in_prompt` it starts inside the
    reasoning."""
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
    think_end = completion.find(template.think_close) + len(template.think_close)
    answer_end = starts[-1] + len(template.answer_close)
    outside = [completion[think_end:completion.find(template.answer_open)], completion[answer_end:]]
    if not template.think_in_prompt:
        outside.append(completion[:starts[0]])
    return not any(text.strip() for text in outside)


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

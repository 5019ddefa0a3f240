"""What a reward model sees of a prompt and a reply, as text and as tokens.

Helpfulness (kind = pairwise) is judged by the question and the summary, what follows the reasoning; harm (pointwise) by
the whole reply (arXiv 2501.12948, section 3). Every sequence ends in the end of sequence, whose score is the reply's.
"""

from collections.abc import Sequence

from r1mega.config.data import ChatTemplate
from r1mega.config.error import UserError
from r1mega.data.chat_template import render_prompt
from r1mega.data.preference_row import Judgement, Kind
from r1mega.data.tokenizer import Tokenizer


def summary(reply: str, template: ChatTemplate) -> str:
    """What follows the reasoning, stripped: after the last `think_close`. Of a reply that opens its reasoning (with
    `think_in_prompt` each does) and never ends it nothing; of one without reasoning all."""
    before, closed, after = reply.rpartition(template.think_close)
    if closed:
        return after.strip()
    return "" if template.think_in_prompt or template.think_open in reply else reply.strip()


def shown_reply(kind: Kind, reply: str, template: ChatTemplate) -> str:
    """The part of a reply that a reward model of `kind` sees, as it goes on after the prompt."""
    if kind == "pointwise":
        return reply
    empty_reasoning = template.think_close if template.think_in_prompt else ""
    return empty_reasoning + summary(reply, template)


def as_reply(text: str, template: ChatTemplate) -> str:
    """A text of a data set as a reply to the template's prompt: where the prompt opens the reasoning, one without any
    starts with its end."""
    if not template.think_in_prompt:
        return text
    text = text.lstrip().removeprefix(template.think_open)
    return text if template.think_close in text else template.think_close + text


def encode_judgements(
    judgements: Sequence[Judgement], kind: Kind, tokenizer: Tokenizer, template: ChatTemplate
) -> list[list[list[int]]]:
    """Of each judgement the token ids of its replies. Raises UserError for a special token in a prompt, and a reply
    with nothing to be seen."""
    shown = []
    for one in judgements:
        for text in one.replies:
            seen = shown_reply(kind, as_reply(text, template), template)
            if not seen.removeprefix(template.think_close).strip():
                raise UserError(f"{one.origin}: nothing follows the reasoning of a reply, and kind=\"pairwise\" judges "
                                "by that; remove this row")
            shown.append(seen)
    responses = iter(tokenizer.encode_many(shown))
    return [[[*prompt_tokens(one.prompt, tokenizer, template, one.origin), *next(responses), tokenizer.eos_id]
             for _ in one.replies] for one in judgements]


def prompt_tokens(question: str, tokenizer: Tokenizer, template: ChatTemplate, origin: str) -> list[int]:
    """Token ids of a prompt. Raises UserError for a special token in the question."""
    for text in tokenizer.special_texts:
        if text in question:
            raise UserError(f"{origin}: the prompt contains the tokenizer's special token {text!r}; remove it from the "
                            "prompt, or drop this row")
    return tokenizer.encode(render_prompt(template, question), parse_special=True)

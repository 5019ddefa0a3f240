"""A demonstration as tokens, with the responses marked."""

from array import array
from collections.abc import Iterator, Sequence

from r1mega.config.data import ChatTemplate
from r1mega.config.error import UserError
from r1mega.data.chat_template import render_prompt
from r1mega.data.sft_row import Demonstration
from r1mega.data.tokenizer import Tokenizer

Encoded = tuple[array, bytearray]  # token ids (int32) and as many marks, 1 on what is learned


def encode_demonstrations(
    demonstrations: Sequence[Demonstration], tokenizer: Tokenizer, template: ChatTemplate
) -> Iterator[Encoded]:
    """Prompts, responses and the end of sequence after every response; responses and ends are learned. A system
    message goes before the first question, a blank line between.

    Special tokens written in the template are meant; one in a question is an error, one in a response ordinary text.
    Raises UserError.
    """
    later = template if template.next_prompt is None else template.model_copy(update={"prompt": template.next_prompt})
    responses = iter(tokenizer.encode_many([
        _without_open_tag(demonstration, response, template)
        for demonstration in demonstrations for _, response in demonstration.turns]))
    for demonstration in demonstrations:
        if len(demonstration.turns) > 1 and template.next_prompt is None:
            raise UserError(f"{demonstration.origin}: has {len(demonstration.turns)} questions, and the template does "
                            "not say how later ones are asked; set tokenizer.template.next_prompt, e.g. "
                            '"\\nUser: {{ question }}\\nAssistant: "')
        ids, marks = array("i"), bytearray()
        for number, (question, text) in enumerate(demonstration.turns):
            if not number and demonstration.system:
                question = f"{demonstration.system}\n\n{question}"
            _refuse_special(question, tokenizer, demonstration.origin)
            prompt = tokenizer.encode(render_prompt(later if number else template, question), parse_special=True)
            response = [*next(responses), tokenizer.eos_id]
            if tokenizer.unknown_id in response:
                _refuse_unknown(text, tokenizer, demonstration.origin)
            ids.extend([*prompt, *response])
            marks += bytes(len(prompt)) + b"\1" * len(response)
        yield ids, marks


def _without_open_tag(demonstration: Demonstration, response: str, template: ChatTemplate) -> str:
    """Where the prompt opens the reasoning, the response goes on inside it."""
    if not template.think_in_prompt:
        return response
    if template.think_close not in response:
        raise UserError(f"{demonstration.origin}: the response has no {template.think_close}, and the prompt opens "
                        "the reasoning (tokenizer.template.think_in_prompt=true); write one before the result, also "
                        "where there is no reasoning")
    return response.lstrip().removeprefix(template.think_open)


def _refuse_unknown(text: str, tokenizer: Tokenizer, origin: str) -> None:
    """The model would learn to write that it does not know a character."""
    first = next((one for one in text if tokenizer.unknown_id in tokenizer.encode(one)), text[:20])
    raise UserError(f"{origin}: the response has {first!r}, which is in no token of the tokenizer; take it out, or use "
                    "a tokenizer that reads any text (byte-level, from 512 tokens on)")


def _refuse_special(question: str, tokenizer: Tokenizer, origin: str) -> None:
    for text in tokenizer.special_texts:
        if text in question:
            raise UserError(f"{origin}: the question contains the tokenizer's special token {text!r}; remove it from "
                            "the question, or drop this row")

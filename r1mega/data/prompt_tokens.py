"""Prompts as token ids, and what happens to those that are too long."""

from collections.abc import Sequence
from dataclasses import dataclass

from r1mega.config.data import ChatTemplate, DataConfig
from r1mega.config.error import UserError
from r1mega.data.chat_template import render_prompt
from r1mega.data.tokenizer import Tokenizer
from r1mega.record import Problem


@dataclass(frozen=True, slots=True)
class PromptSet:
    """Problems with their prompts: `prompt_ids[i]` are the tokens of problem i's prompt."""

    problems: list[Problem]
    prompt_ids: list[tuple[int, ...]]
    dropped: int
    """Problems left out because their prompts are longer than `max_prompt_tokens`."""


def encode_prompt(tokenizer: Tokenizer, template: ChatTemplate, problem: Problem) -> tuple[int, ...]:
    """Token ids of one prompt. Special tokens written in the template are meant; one in a question is an
    error."""
    for text in tokenizer.special_texts:
        if text in problem.question:
            raise UserError(f"{_origin(problem)}: the question contains the tokenizer's special token "
                            f"{text!r}; remove it from the question, or drop this problem")
    return tuple(tokenizer.encode(render_prompt(template, problem.question), parse_special=True))


def encode_prompts(problems: Sequence[Problem], tokenizer: Tokenizer, template: ChatTemplate,
                   config: DataConfig) -> PromptSet:
    """Prompts of all problems. A longer one than `config.max_prompt_tokens` is an error or dropped, as
    `config.overlong_prompts` says; dropping every one is an error too."""
    kept, prompt_ids, longest = [], [], 0
    limit = config.max_prompt_tokens
    for problem in problems:
        ids = encode_prompt(tokenizer, template, problem)
        longest = max(longest, len(ids))
        if len(ids) <= limit:
            kept.append(problem)
            prompt_ids.append(ids)
        elif config.overlong_prompts == "error":
            raise UserError(f"{_origin(problem)}: the prompt has {len(ids)} tokens, "
                            f"data.max_prompt_tokens={limit}; raise the limit, shorten the question, or set "
                            "data.overlong_prompts=\"drop\"")
    if problems and not kept:
        raise UserError(f"data.max_prompt_tokens={limit}: all {len(problems)} prompts are longer (up to "
                        f"{longest} tokens) and dropped; raise the limit")
    return PromptSet(kept, prompt_ids, dropped=len(problems) - len(kept))


def _origin(problem: Problem) -> str:
    return str(problem.metadata.get("origin", f"problem {problem.id}"))

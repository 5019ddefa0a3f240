"""A language model as the one who makes outputs readable: any callable from text to text, our own engine too."""

from collections.abc import Callable
from dataclasses import dataclass

from r1mega.config.data import ChatTemplate
from r1mega.data import Tokenizer, render_prompt
from r1mega.record import SampleRequest
from r1mega.reward.format import extract_answer
from r1mega.rollout import Engine, Sampling, sample_seed
from r1mega.stage.readable import reasoning_of

ASK = """\
Below are a question and notes on it that reach the result {answer}. Rewrite the notes for a reader.
Keep every step that leads to the result, in its order, in the language of the question, in complete sentences; leave \
out repetitions, dead ends that teach nothing, and text in other languages. Add nothing that the notes do not say.
Write the reasoning between {think_open} and {think_close}. After it summarise the solution in a few sentences that \
end with the result as {answer_open} {answer} {answer_close}.

Question:
{question}

Notes:
{reasoning}
"""


@dataclass(frozen=True)
class ModelRewriter:
    """Asks `ask` for the readable form. What it loses is noticed by `from_rollouts`, which drops such rows."""

    ask: Callable[[str], str]
    template: ChatTemplate
    instruction: str = ASK

    def __call__(self, question: str, text: str) -> str:
        tags = self.template.model_dump(include={"think_open", "think_close", "answer_open", "answer_close"})
        values = {**tags, "question": question, "reasoning": reasoning_of(text, self.template),
                  "answer": extract_answer(text, self.template) or ""}
        written = self.ask(self.instruction.format(**values)).strip()
        return written.removeprefix(self.template.think_open).lstrip() if self.template.think_in_prompt else written


@dataclass(frozen=True)
class EngineText:
    """Our own engine as a callable from text to text. Collective: every rank of the layout asks the same."""

    engine: Engine
    tokenizer: Tokenizer
    template: ChatTemplate
    sampling: Sampling
    seed: int

    def __call__(self, text: str) -> str:
        ids = tuple(self.tokenizer.encode(render_prompt(self.template, text), parse_special=True))
        (completion,) = self.engine.generate([SampleRequest(ids, sample_seed(self.seed, 0, text, 0))], self.sampling)
        return self.tokenizer.decode(completion.token_ids, skip_special=True)

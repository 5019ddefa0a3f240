"""A language model as the one who makes outputs readable: ours, or any behind an endpoint."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from r1mega.config.data import ChatTemplate
from r1mega.reward.format import extract_answer
from r1mega.stage.readable import reasoning_of

Ask = Callable[[Sequence[str]], list[str | None]]  # prompts to replies; None where there is none

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
    """Asks `ask` for the readable forms, all of a batch at once. Whoever takes them checks what they lost."""

    ask: Ask
    template: ChatTemplate
    instruction: str = ASK

    def __call__(self, items: Sequence[tuple[str, str]]) -> list[str | None]:
        """Of (question, well-formed output) pairs."""
        replies = self.ask([self._prompt(question, text) for question, text in items])
        return [None if reply is None else self._readable(reply) for reply in replies]

    def _prompt(self, question: str, text: str) -> str:
        tags = self.template.model_dump(include={"think_open", "think_close", "answer_open", "answer_close"})
        return self.instruction.format(**tags, question=question, reasoning=reasoning_of(text, self.template),
                                       answer=extract_answer(text, self.template) or "")

    def _readable(self, reply: str) -> str:
        """What was written last: a model that reasons may think before it writes, in the same tags."""
        begin = reply.rfind(self.template.think_open)
        written = reply[max(0, begin):].strip()
        return written.removeprefix(self.template.think_open).lstrip() if self.template.think_in_prompt else written

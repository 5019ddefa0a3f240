"""Rules about the text of verifiable maths: repetition, equations that do not hold, and how an output of R1-Zero
becomes reasoning and a summary for the reader (arXiv 2501.12948, supplement, on cold-start data).
"""

import re
from dataclasses import dataclass
from fractions import Fraction

from r1mega.config.data import ChatTemplate
from r1mega.reward.format import extract_answer

_NUMBER = r"-?\d{1,18}(?:\.\d{1,18})?"
_EQUATION = re.compile(rf"(?<![\w.)])({_NUMBER})\s*([-+*/×÷])\s*({_NUMBER})\s*=\s*({_NUMBER})(?![\w(]|\.\d)")
_GOES_ON = re.compile(r"[-+*/×÷^]|\s+[-+*/×÷^]\s")
_SIGNS = tuple("-+*/×÷^(")
_OF_EXPRESSIONS = frozenset("-+*/×÷(). 0123456789")


def reasoning_of(text: str, template: ChatTemplate) -> str:
    """What stands before the end of the reasoning, without its opening tag."""
    return text.partition(template.think_close)[0].replace(template.think_open, "", 1).strip()


def repeated_share(text: str, ngram: int) -> float:
    """Share of the n-grams of words that occurred before in the text; 0 for a text shorter than one. A text with no
    spaces in it is cut into characters."""
    words = text.split()
    if len(words) < ngram <= len(text) and len(text) > 40 * max(1, len(words)):
        words = list(text)
    count = len(words) - ngram + 1
    if count <= 0:
        return 0.0
    return 1 - len({tuple(words[at:at + ngram]) for at in range(count)}) / count


def wrong_equations(text: str) -> list[str]:
    """Equations of two numbers that do not hold, as they are written."""
    return [match.group(0) for match in _equations(text) if not _holds(*match.groups())]


def _equations(text: str) -> list[re.Match]:
    """Those that are no part of a longer expression: of `1+2+3=6` nothing, of `3-8=-5 -5+4=-1` both."""
    return [match for match in _EQUATION.finditer(text)
            if not text[max(0, match.start() - 9):match.start()].rstrip().endswith(_SIGNS)
            and not _GOES_ON.match(text, match.end())]


def _holds(left: str, sign: str, right: str, result: str) -> bool:
    a, b, c = Fraction(left), Fraction(right), Fraction(result)
    match sign:
        case "+":
            return a + b == c
        case "-":
            return a - b == c
        case "*" | "×":
            return a * b == c
    if b == 0:
        return False
    decimals = len(result.partition(".")[2])
    return abs(a / b - c) <= (Fraction(1, 2 * 10**decimals) if decimals else 0)  # a decimal may be rounded


@dataclass(frozen=True)
class RuleRewriter:
    """Makes a maths output readable without a model: one step a line, none twice in a row, and a summary that says the
    result in a sentence, or as the finished equation where the question is one.

    The result stays inside the answer tags, so that the accuracy reward of later stages finds it.
    """

    template: ChatTemplate
    sentence: str | None = "The result is {answer}"
    """Of the summary; {answer} is the result in its tags. None: nothing but the tags, the shape that R1-Zero's format
    reward asks for."""

    def __call__(self, question: str, text: str) -> str:
        """The readable form of one well-formed output."""
        template = self.template
        reasoning = "\n".join(steps_of(reasoning_of(text, template)))
        answer = extract_answer(text, template) or ""
        tagged = f"{template.answer_open} {answer} {template.answer_close}"
        begin = "" if template.think_in_prompt else f"{template.think_open}\n"
        return f"{begin}{reasoning}\n{template.think_close}\n{self._summary(question, tagged)}"

    def _summary(self, question: str, tagged: str) -> str:
        if self.sentence is None:
            return tagged
        asked = expression_of(question)
        return self.sentence.replace("{answer}", tagged) if asked is None else f"{asked} = {tagged}"


def expression_of(question: str) -> str | None:
    """`3 - 8 + 4` of a question that ends in `3 - 8 + 4 =` or `3 - 8 + 4 = ?`; None of others."""
    asked = question.strip().removesuffix("?").rstrip()
    if not asked.endswith("="):
        return None
    begin = end = len(asked) - 1
    while begin and asked[begin - 1] in _OF_EXPRESSIONS:
        begin -= 1
    found = " ".join(asked[begin:end].lstrip(". )").split())
    return found if any(c.isdigit() for c in found) else None


def steps_of(reasoning: str) -> list[str]:
    """Lines; within a line, a chain of equations without words between them is one step each. A step equal to the one
    before is left out."""
    steps: list[str] = []
    for line in reasoning.splitlines():
        for step in _split(" ".join(line.split())):
            if step and (not steps or step != steps[-1]):
                steps.append(step)
    return steps


def _split(line: str) -> list[str]:
    found = _equations(line)
    between = [line[before:after] for before, after in
               zip([0, *(m.end() for m in found)], [*(m.start() for m in found), len(line)], strict=True)]
    if len(found) < 2 or "".join(between).strip(" ,;."):
        return [line]
    return [match.group(0) for match in found]

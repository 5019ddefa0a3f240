"""Sums asked in several languages, with solutions that mix them: what a policy that is paid for answers alone goes on
doing, and one that is paid for its language unlearns."""

import random
import re
from collections.abc import Callable
from dataclasses import dataclass

from r1mega.config.data import BilingualSource
from r1mega.config.error import UserError
from r1mega.record import Problem

TASK = "bilingual_sum"
OWN = 0.6  # chance that a step of a worked solution is in the language of the question
_SIGNS = ("+", "-")


@dataclass(frozen=True, slots=True)
class Wording:
    """How a language asks, and writes the first step and later ones. Three words a step and no two steps the same, so
    that a right solution in one language has a language consistency of 1."""

    question: str
    plus: str
    minus: str
    first: str
    later: str


WORDINGS = {
    "en": Wording("What is {}?", "plus", "minus", "first {} {} {} gives {}", "then {} {} {} is {}"),
    "de": Wording("Wie viel ist {}?", "plus", "minus", "zuerst {} {} {} ergibt {}", "dann {} {} {} ist {}"),
    "zh": Wording("{} 等于多少?", "加", "减", "首先 {} {} {} 得到 {}", "然后 {} {} {} 等于 {}"),
}


def bilingual_problems(source: BilingualSource, where: str) -> list[Problem]:
    """`source.size` different sums, drawn by the seed, each asked once in every language, one after the other.

    Metadata: "language", and "group", the sum itself: problems of one group are held out together. Raises UserError
    where there are not so many sums.
    """
    total = 9 ** source.terms * 2 ** (source.terms - 1)
    if source.size > total:
        raise UserError(f"{where}: size={source.size}, but there are only {total} sums of terms={source.terms}; use at "
                        f"most {total}, or more terms")
    problems = []
    for index in random.Random(source.seed).sample(range(total), source.size):
        text, answer = _sum(index, source.terms)
        for language in source.languages:
            origin = f"{where} ({TASK}) {text} in {language}"
            problems.append(Problem(TASK, WORDINGS[language].question.format(text), str(answer), metadata={
                "origin": origin, "language": language, "languages": list(source.languages), "group": text}))
    return problems


def worked_sum(problem: Problem, slip: Callable[[int], int], rng: random.Random) -> tuple[list[str], str]:
    """Steps and answer of a problem of this family, `slip` applied to each step's result. Every step is in the
    language of the question with a chance of OWN, or else in another of its source."""
    terms = re.findall(r"([+-]?) ?(\d)", problem.metadata["group"])
    own = problem.metadata["language"]
    others = [language for language in problem.metadata["languages"] if language != own]
    total, steps = int(terms[0][1]), []
    for index, (sign, number) in enumerate(terms[1:]):
        wording = WORDINGS[own if rng.random() < OWN else rng.choice(others)]
        result = slip(total + int(sign + number))
        phrase = wording.later if index else wording.first
        steps.append(phrase.format(total, wording.plus if sign == "+" else wording.minus, number, result))
        total = result
    return steps, str(total)


def _sum(index: int, terms: int) -> tuple[str, int]:
    """Sum number `index` of all with so many terms from 1 to 9, and its value: 0 is "1 + 1 + 1"."""
    index, digit = divmod(index, 9)
    text, value = str(digit + 1), digit + 1
    for _ in range(terms - 1):
        index, digit = divmod(index, 9)
        index, sign = divmod(index, 2)
        text += f" {_SIGNS[sign]} {digit + 1}"
        value += -digit - 1 if sign else digit + 1
    return text, value

"""Which samples rules alone keep: every filter has a name and a reason that the report gives for what fails it."""

import unicodedata
from collections.abc import Callable
from dataclasses import dataclass

from r1mega.config.data import ChatTemplate
from r1mega.config.rejection import FilterConfig
from r1mega.data.ngrams import words
from r1mega.record import Completion, Score
from r1mega.stage.readable import reasoning_of, repeated_share, wrong_equations

FENCE = "```"


@dataclass(frozen=True, slots=True)
class Sampled:
    """One judged completion."""

    text: str
    reasoning: str
    completion: Completion
    score: Score
    undecided: bool = False
    """No rule can tell whether the answer is right."""


@dataclass(frozen=True, slots=True)
class Filter:
    name: str
    reason: str
    """What the report calls a sample that fails."""
    holds: Callable[[Sampled], bool]


def filters_of(config: FilterConfig, with_language: bool) -> list[Filter]:
    """In the order they are asked, cheap ones first. `with_language`: whether language consistency was measured."""
    found = []
    if config.complete:
        found.append(Filter("complete", "cut", lambda one: one.completion.finish == "stop"))
    if config.max_tokens is not None:
        limit = config.max_tokens
        found.append(Filter("length", "overlong", lambda one: len(one.completion.token_ids) <= limit))
    if config.form:
        found += [Filter("form", "malformed", lambda one: one.score.parts["format"] == 1.0),
                  Filter("reasoning", "no_reasoning", lambda one: bool(one.reasoning))]
    if config.correct:
        found.append(Filter("correct", "wrong", lambda one: one.undecided or one.score.parts["accuracy"] == 1.0))
    if with_language and config.min_language > 0:
        found.append(Filter("language", "mixed_language",
                            lambda one: one.score.parts["language"] >= config.min_language))
    if config.max_repetition < 1:
        found.append(Filter("repetition", "repetitive", lambda one: repeated_share(
            one.reasoning, config.repetition_ngram) <= config.max_repetition))
    if config.max_clutter < 1:
        found.append(Filter("clutter", "cluttered", lambda one: clutter_share(one.reasoning) <= config.max_clutter))
    if config.max_paragraph_words is not None:
        longest = config.max_paragraph_words
        found.append(Filter("paragraphs", "long_paragraph", lambda one: longest_paragraph(one.reasoning) <= longest))
    if config.equations:
        found.append(Filter("equations", "wrong_equation", lambda one: not wrong_equations(one.reasoning)))
    return found


def first_failed(sample: Sampled, filters: list[Filter]) -> str | None:
    """The reason of the first filter that a sample fails; None if it passes all."""
    return next((one.reason for one in filters if not one.holds(sample)), None)


def sampled(text: str, template: ChatTemplate, completion: Completion, score: Score, undecided: bool) -> Sampled:
    return Sampled(text, reasoning_of(text, template), completion, score, undecided)


def clutter_share(text: str) -> float:
    """Of the characters that are not white space, the share in blocks of code (``` to ```, or to the end) or that
    cannot be seen or read: controls, private use, marks of lost bytes. 0 for an empty text."""
    parts = text.split(FENCE)
    outside, inside = "".join(parts[::2]).split(), "".join(parts[1::2]).split()
    plain = "".join(outside)
    hidden = sum(unicodedata.category(c) in ("Cc", "Cf", "Co", "Cn", "Cs") or c == "\N{REPLACEMENT CHARACTER}"
                 for c in plain)
    code = sum(map(len, inside)) + len(FENCE) * (len(parts) - 1)
    total = len(plain) + code
    return (hidden + code) / total if total else 0.0


def longest_paragraph(text: str) -> int:
    """Words of the longest stretch without an empty line or, where there are none at all, of the longest line."""
    parts = text.split("\n\n") if "\n\n" in text else text.splitlines()
    return max((len(words(part)) for part in parts), default=0)

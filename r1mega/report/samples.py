"""Completions worth reading: the same problem early and late."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from markupsafe import Markup, escape

from r1mega.report.run import Run

PAIRS = 6
LATEST = 12
CHARACTERS = 12_000
DEFAULT_TAGS = {"think_open": "<think>", "think_close": "</think>",
                "answer_open": "<answer>", "answer_close": "</answer>"}
UNREADABLE = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")


@dataclass(frozen=True)
class Sample:
    """A completion ready for the page."""

    step: int
    question: str
    expected: str
    html: Markup
    right: bool
    reward: float | None
    tokens: int | None
    cut: bool
    problem: str
    task: str
    split: str


def early_and_late(run: Run) -> list[tuple[Sample, Sample]]:
    """The first completions of up to PAIRS problems beside the last ones of the same problems.

    Held-out problems come first, in the order they were logged: nothing is chosen by its outcome. Where no
    problem was logged both in the first and in the last third of the run, the problem of the same task with
    the closest length stands in.
    """
    samples = _readable(run)
    if not samples or samples[0].step == samples[-1].step:
        return []
    first, last = samples[0].step, samples[-1].step
    early = [sample for sample in samples if sample.step <= first + (last - first) / 3]
    late = [sample for sample in reversed(samples) if sample.step >= last - (last - first) / 3]
    same = {sample.problem: sample for sample in reversed(late)} if any(s.problem for s in samples) else {}
    pairs: dict[str, tuple[Sample, Sample]] = {}
    for sample in sorted(early, key=lambda sample: sample.split != "heldout"):
        if sample.problem in same:
            pairs.setdefault(sample.problem, (sample, same[sample.problem]))
    if not pairs:
        for number, sample in enumerate(early[:PAIRS]):
            pairs[str(number)] = (sample, min(late, key=lambda other: _distance(sample, other)))
    return list(pairs.values())[:PAIRS]


def latest(run: Run) -> list[Sample]:
    """The last LATEST completions, newest first."""
    return _readable(run)[:-LATEST - 1:-1]


def tidy(text: str) -> str:
    """`text` with what a page cannot or must not show (controls, text-direction marks) as a visible mark."""
    return UNREADABLE.sub("\N{REPLACEMENT CHARACTER}", text)


def _readable(run: Run) -> list[Sample]:
    template = run.recipe.get("tokenizer", {}).get("template", {})
    tags = [template.get(name, tag) for name, tag in DEFAULT_TAGS.items()]
    return [_sample(record, tags) for record in run.samples if isinstance(record.get("text"), str)]


def _sample(record: Mapping[str, Any], tags: Sequence[str]) -> Sample:
    parts = record.get("parts") or {}
    judged = parts.get("accuracy", record.get("reward"))
    return Sample(
        step=record["step"], question=tidy(str(record.get("question", ""))),
        expected=tidy(str(record.get("answer", ""))), html=_marked(record["text"], tags),
        right=judged is not None and judged >= 0.5, reward=record.get("reward"), tokens=record.get("tokens"),
        cut=record.get("finish") == "length", problem=str(record.get("problem", "")),
        task=str(record.get("task", "")), split=str(record.get("split", "")))


def _marked(text: str, tags: Sequence[str]) -> Markup:
    """Escaped, with the template's tags set apart and the answer in bold."""
    more = len(text) - CHARACTERS
    shown = f"{text[:CHARACTERS]} [{more} more characters]" if more > 0 else text
    html = str(escape(tidy(shown)))
    opening, closing = (re.escape(str(escape(tag))) for tag in tags[2:])
    html = re.sub(f"({opening})(.*?)({closing})", r"\1<b>\2</b>\3", html, flags=re.DOTALL)
    for tag in tags:
        safe = str(escape(tag))
        html = html.replace(safe, f"<i>{safe}</i>")
    return Markup(html)  # noqa: S704 - escaped above; only our own <b> and <i> were added


def _distance(sample: Sample, other: Sample) -> tuple[bool, int]:
    return sample.task != other.task, abs(len(sample.question) - len(other.question))

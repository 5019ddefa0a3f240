"""From the marks of every sample to a suite's numbers."""

from collections.abc import Mapping, Sequence
from typing import Any

from r1mega.algorithm.interval import Estimate, clustered_interval
from r1mega.algorithm.pass_at_k import ks_for, pass_at_k
from r1mega.algorithm.vote import answer_classes, majority
from r1mega.data.suites import SuiteProblem
from r1mega.record import Completion
from r1mega.reward.suite_judge import Marked

VOTED = ("maths", "choice", "factual", "recipe")  # kinds with answers that can be counted
PART_NAMES = {"factual": "f1", "instruction": "instructions kept"}


def problem_record(
    one: SuiteProblem, marked: Marked, completions: Sequence[Completion], texts: Sequence[str] | None
) -> dict[str, Any]:
    """A problem's line in the results: every sample's verdict, and which answers count together."""
    classes = answer_classes([mark.answer for mark in marked.marks], lambda i, j: (i, j) in marked.equal)
    samples = []
    for index, (mark, completion) in enumerate(zip(marked.marks, completions, strict=True)):
        sample = {"right": mark.right, "answer": mark.answer, "class": classes[index], "part": round(mark.part, 6),
                  "tokens": len(completion.token_ids), "finish": completion.finish}
        if mark.measured:
            sample["measured"] = {name: round(value, 6) for name, value in mark.measured.items()}
        if mark.note:
            sample["note"] = mark.note
        if texts is not None:
            sample["text"] = texts[index]
        samples.append(sample)
    record = {"id": one.key, "origin": one.problem.metadata["origin"], "expected": one.problem.answer,
              "right": sum(mark.right for mark in marked.marks), "samples": samples}
    if (winner := majority(classes)) is not None:
        record["majority"] = {"answer": samples[winner.label]["answer"], "votes": winner.votes,
                              "right": samples[winner.label]["right"]}
    return record


def suite_metrics(kind: str, problems: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, float]]:
    """Each metric with its 95% interval (algorithm/interval.py): pass@k for every worthwhile k, cons@n, and of factual
    suites f1, of instructions the share kept, of recipes the format and language of completions."""
    num_samples = len(problems[0]["samples"])
    found = {}
    for k in ks_for(num_samples):
        found[f"pass@{k}"] = clustered_interval(
            [pass_at_k(num_samples, problem["right"], k) for problem in problems], num_samples)
    if kind in VOTED:
        found[f"cons@{num_samples}"] = clustered_interval(
            [float(problem.get("majority", {}).get("right", False)) for problem in problems])
    if kind in PART_NAMES:
        found[PART_NAMES[kind]] = clustered_interval(
            [sum(sample["part"] for sample in problem["samples"]) / num_samples for problem in problems], num_samples)
    for name in problems[0]["samples"][0].get("measured", ()):
        found[name] = clustered_interval(
            [sum(sample["measured"][name] for sample in problem["samples"]) / num_samples for problem in problems],
            num_samples)
    return {name: _rounded(estimate) for name, estimate in found.items()}


def suite_counts(kind: str, problems: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """What explains the metrics: how long completions were, how many were cut, how many gave an answer."""
    samples = [sample for problem in problems for sample in problem["samples"]]
    counts = {"mean_tokens": sum(sample["tokens"] for sample in samples) / len(samples),
              "cut": sum(sample["finish"] == "length" for sample in samples) / len(samples)}
    if kind in VOTED:
        counts["answered"] = sum(sample["answer"] is not None for sample in samples) / len(samples)
    return {name: round(value, 6) for name, value in counts.items()}


def _rounded(estimate: Estimate) -> dict[str, float]:
    return {name: round(value, 6) for name, value in estimate._asdict().items()}

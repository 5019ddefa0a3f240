"""One line of the doctor."""

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum


class Level(StrEnum):
    """How bad it is: `absent` costs something but nothing breaks; a `problem` must be mended."""

    OK = "ok"
    ABSENT = "--"
    PROBLEM = "!!"


@dataclass(frozen=True, slots=True)
class Finding:
    level: Level
    subject: str  # e.g. "Transformer Engine"
    text: str  # version, or what its absence costs, or the fix


def print_findings(title: str, findings: Iterable[Finding]) -> int:
    """Print them under a title as they come; the number of problems."""
    print(f"\n{title}")
    problems = 0
    for finding in findings:
        print(f"  {finding.level.value}  {finding.subject:22} {finding.text}", flush=True)
        problems += finding.level is Level.PROBLEM
    return problems

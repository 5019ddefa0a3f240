"""A verifiable problem: what is asked, and what a right answer is."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class Problem:
    """One question with a checkable answer.

    `scorer` names the rule that judges an answer: `reasoning_gym` (the task's own scorer, which reads
    `metadata`), `math` (math-verify), `exact` or `code` (runs the answer on the tests in `metadata`); `preference` is
    no rule: there is no right answer, and `answer` is empty. `id` is a hash of the content, so that the same problem
    from two sources, or from two seeds of a generator, is one problem.
    """

    task: str  # e.g. "chain_sum": the family, for reports
    question: str
    answer: str
    scorer: str = "exact"
    metadata: Mapping[str, Any] = field(default_factory=dict)  # JSON-able; what the scorer needs

    @property
    def id(self) -> str:
        """16 hex digits of SHA-256 over (task, question, answer)."""
        content = json.dumps([self.task, self.question, self.answer], ensure_ascii=True)
        return hashlib.sha256(content.encode()).hexdigest()[:16]

"""From a suite to its problems."""

from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from r1mega.config.error import UserError
from r1mega.config.rl import RewardConfig
from r1mega.config.suite import SuiteConfig, SuiteRecipe
from r1mega.data.suites.choice import read_options, shuffled
from r1mega.data.suites.code_tests import code_tests
from r1mega.data.suites.own_problems import own_problems
from r1mega.data.suites.pick import pick, pick_text, pick_texts
from r1mega.data.suites.prompt import PromptText
from r1mega.data.suites.rows import suite_rows
from r1mega.record import Problem


@dataclass(frozen=True, slots=True)
class SuiteProblem:
    """One problem under the name by which results know it."""

    key: str
    problem: Problem
    """`question` is what is asked, with passage, options and instructions; `metadata` what judges the answer."""


@dataclass(frozen=True, slots=True)
class SuiteProblems:
    """A suite's problems, in its order."""

    problems: list[SuiteProblem]
    dropped: int
    """Left out for a constraint that cannot be checked."""
    reward: RewardConfig | None = None
    """Of kind "recipe": the rewards that judge them."""


def load_suite_problems(
    suite: SuiteConfig, folder: Path, seed: int = 0, constraints: Collection[str] | None = None
) -> SuiteProblems:
    """All problems of a suite. `folder` is that of the suite's file; `seed` decides the order of options; `constraints`
    are those that can be checked (None: any).

    A problem's key is its own id, or a hash of question and answer; of rows with the same key, later ones get "#2" and
    so on. Raises UserError naming the row.
    """
    if isinstance(suite.source, SuiteRecipe):
        problems, reward = own_problems(suite.source, folder)
        return SuiteProblems([SuiteProblem(one.id, one) for one in problems[:suite.limit]], 0, reward)
    prompt = PromptText(suite)
    found: list[SuiteProblem] = []
    seen: Counter[str] = Counter()
    dropped = 0
    for origin, row in suite_rows(suite.source, folder):
        if len(found) == suite.limit:
            break
        problem, key = _problem(row, suite, prompt, seed, origin)
        unknown = sorted({name for name, _ in problem.metadata.get("constraints", ())} - set(
            constraints or ())) if constraints is not None else []
        if unknown and suite.unsupported == "drop":
            dropped += 1
            continue
        if unknown:
            raise UserError(f"{origin}: constraint {unknown[0]!r} cannot be checked; set unsupported = \"drop\" to "
                            "leave such problems out (they are counted)")
        seen[key] += 1
        found.append(SuiteProblem(key if seen[key] == 1 else f"{key}#{seen[key]}", problem))
    if not found:
        raise UserError(f"suite {suite.title!r}: has no problems; check source and unsupported")
    return SuiteProblems(found, dropped)


def _problem(row: Any, suite: SuiteConfig, prompt: PromptText, seed: int, origin: str) -> tuple[Problem, str]:
    """The problem of a row, and its key."""
    fields = suite.fields
    question = pick_text(row, fields.question, "question", origin)
    context = "" if fields.context is None else str(pick(row, fields.context, "context", origin) or "")
    own = None if fields.id is None else pick_text(row, fields.id, "id", origin)
    answer, metadata, options, scorer = "", {"origin": origin}, "", suite.kind
    match suite.kind:
        case "maths":
            answer, scorer = pick_text(row, fields.answer, "answer", origin), "math"
        case "choice":
            listed = read_options(row, fields, origin)
            key = own or Problem(suite.kind, question, listed.texts[listed.right]).id
            listed = shuffled(listed, seed, key) if suite.shuffle else listed
            answer, options, own = listed.letter, listed.shown, key
            metadata["letters"] = len(listed.texts)
        case "factual":
            accepted = pick_texts(row, fields.answer, "answer", origin)
            answer, metadata = accepted[0], metadata | {"accepted": accepted}
        case "instruction":
            metadata["constraints"] = _constraints(row, suite, origin)
        case "code":
            metadata |= code_tests(row, fields, origin)
    asked = prompt.render(question=question, context=context, options=options, starter=metadata.get("starter", ""))
    key = own or Problem(suite.kind, f"{context}\n{question}", answer).id
    return Problem(task=suite.title, question=asked, answer=answer, scorer=scorer, metadata=metadata), key


def _constraints(row: Any, suite: SuiteConfig, origin: str) -> list[tuple[str, dict[str, Any]]]:
    """(name, arguments) of each; published files fill up the arguments of others with null."""
    names = pick(row, suite.fields.constraints, "constraints", origin)
    arguments = pick(row, suite.fields.arguments, "arguments", origin)
    fits = isinstance(names, list) and isinstance(arguments, list) and len(names) == len(arguments)
    if not fits or not names or not all(isinstance(one, Mapping | None) for one in arguments):
        raise UserError(f"{origin}: {suite.fields.constraints} and {suite.fields.arguments} must be lists of equal "
                        "length, of names and of objects")
    return [(str(name), {key: value for key, value in (given or {}).items() if value is not None})
            for name, given in zip(names, arguments, strict=True)]

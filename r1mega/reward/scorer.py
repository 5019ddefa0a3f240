"""Is an answer right? The rules themselves, run in checking processes (see worker.py), never in a trainer's.

R1's accuracy reward is right or wrong. Reasoning-gym's scorers give some wrong answers a little (0.01 for any
number, a share for an answer that contains the right one), which a policy would learn to collect; so 1 counts
and nothing less.
"""

import ast
import logging
from collections.abc import Mapping
from functools import lru_cache
from importlib import import_module
from typing import Any, NamedTuple

from r1mega.data.entry_codec import decode_value
from r1mega.data.reasoning_gym_problems import build_task
from r1mega.reward.own_rules import NAN_WOULD_BE_RIGHT, OWN_RULES, is_same_text
from r1mega.reward.safe_expression import parse_expression

RIGHT = 1.0 - 1e-6

# reasoning-gym 0.1.25: scorers that hand the model's answer to eval(), or to sympy's parse_expr, which is
# eval() too.
EVALUATES_LITERALS = (
    "algorithmic.string_insertion",
    "algorithmic.spiral_matrix",
    "algorithmic.binary_matrix",
    "games.n_queens",
)
PARSES_WITH_SYMPY = {"algebra.simple_integration": "sympy", "algebra.intermediate_integration": "sympy",
                     "algebra.polynomial_multiplication": "sp"}


class Verdict(NamedTuple):
    """`right`, and a word about how it came to be where that is not obvious."""

    right: bool
    note: str = ""


class Check(NamedTuple):
    """One answer to be checked; everything JSON can hold."""

    scorer: str
    task: str
    question: str
    expected: str
    metadata: Mapping[str, Any]
    answer: str


def load_scorer(scorer: str) -> None:
    """Import what a scorer needs and run it once, so that the first answer does not pay for it."""
    match scorer:
        case "reasoning_gym":
            import_module("reasoning_gym")
            _close_eval()
        case "math":
            # It warns that its own time limits are off.
            logging.getLogger("math_verify").setLevel(logging.ERROR)
            for answer in ("0.5", "\\sqrt{2}", "x = 1", "\\{1, 2\\}", "\\sum_{i=1}^{3} i", "5\\%"):
                _is_equal_maths("1/2", answer)


def judge(check: Check) -> Verdict:
    """Apply the rule that `check.scorer` names."""
    match check.scorer:
        case "reasoning_gym":
            return _reasoning_gym(check)
        case "math":
            return _is_equal_maths(check.expected, check.answer)
        case "exact":
            return Verdict(is_same_text(check.expected, check.answer))
    raise ValueError(f"scorer={check.scorer!r}; legal: reasoning_gym, math, exact")


def _reasoning_gym(check: Check) -> Verdict:
    expected = None if check.metadata.get("no_answer") else check.expected
    metadata = decode_value(check.metadata["entry"])
    if (rule := OWN_RULES.get(check.task)) is not None:
        try:
            return Verdict(rule(check.answer, check.expected, metadata))
        except (ArithmeticError, KeyError, RecursionError, SyntaxError, ValueError) as error:
            return Verdict(False, f"not such an answer ({type(error).__name__})")
    if check.task in NAN_WOULD_BE_RIGHT and "nan" in check.answer.lower():
        return Verdict(False, "nan is no number")
    entry = {"question": check.question, "answer": expected, "metadata": metadata}
    dataset = _task(
        check.task, repr(sorted(check.metadata["options"].items())), _Options(check.metadata["options"])
    )
    try:
        score = float(dataset.score_answer(check.answer, entry))
    except MemoryError:
        raise
    except Exception as error:  # scorers trip over answers they did not foresee
        return Verdict(False, f"the scorer raised {type(error).__name__}")
    if score >= RIGHT:
        return Verdict(True)
    return Verdict(False, f"partial score {score:.2f} counts as wrong" if score > 0 else "")


class _Options(dict):
    """Options as a cache argument: their text, given beside them, is the key."""

    def __hash__(self) -> int:
        return 0

    def __eq__(self, other: object) -> bool:
        return True


@lru_cache(maxsize=256)
def _task(task: str, options_text: str, options: _Options) -> Any:
    return build_task(task, dict(options), "problem")


def _close_eval() -> None:
    """Give the reasoning-gym modules that evaluate answers a name of their own for what does it.

    Their `eval` only ever earns part of a point, for an answer written as a Python literal.
    """
    for name in EVALUATES_LITERALS:
        import_module(f"reasoning_gym.{name}").eval = ast.literal_eval
    for name, alias in PARSES_WITH_SYMPY.items():
        module = import_module(f"reasoning_gym.{name}")
        setattr(module, alias, _SympyWithSafeParser(getattr(module, alias)))


class _SympyWithSafeParser:
    """sympy with our `parse_expr`; everything else is its own."""

    parse_expr = staticmethod(parse_expression)

    def __init__(self, sympy: Any):
        self._sympy = sympy

    def __getattr__(self, name: str) -> Any:
        return getattr(self._sympy, name)


def _is_equal_maths(expected: str, answer: str) -> Verdict:
    from math_verify import verify

    gold = _read_maths(expected)
    if not gold:
        return Verdict(is_same_text(expected, answer), "math-verify cannot read the expected answer: "
                                                       "compared as text")
    # Time limits are the process's, not math-verify's: those need signals, and do not stop a long
    # multiplication.
    return Verdict(bool(verify(gold, _read_maths(answer), timeout_seconds=None)))


def _read_maths(text: str) -> list[Any]:
    """What math-verify finds in `text`, which may or may not be marked as LaTeX."""
    from math_verify import parse

    is_marked = "$" in text or "\\boxed" in text or "\\(" in text or "\\[" in text
    found = parse(text if is_marked else f"${text}$", parsing_timeout=None)
    return found or ([] if is_marked else parse(text, parsing_timeout=None))

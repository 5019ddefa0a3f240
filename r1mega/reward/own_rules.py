"""Rules of our own, for reasoning-gym tasks (0.1.25) whose scorers a wrong answer can please.

A policy finds such holes within a few hundred steps, and is then paid for nothing else.
"""

import ast
import math
import operator
import re
from collections.abc import Callable, Mapping
from fractions import Fraction
from typing import Any

_ARITHMETIC = re.compile(r"[0-9\s+\-*/()]*")
_BINARY = {ast.Add: operator.add, ast.Sub: operator.sub, ast.Mult: operator.mul, ast.Div: operator.truediv}
_SIGN = {ast.UAdd: operator.pos, ast.USub: operator.neg}
PROBABILITY_TOLERANCE = 1e-3  # relative: of 0.3125, 0.3122 and 0.3128 still count


def is_same_text(expected: str, answer: str) -> bool:
    """Equal once runs of white space are single spaces."""
    return expected.split() == answer.split()


def is_number_game(answer: str, numbers: list[int], target: int) -> bool:
    """Whether `answer` makes `target` of each of `numbers` once, with + - * / and brackets. Raises for text that is no
    such expression.

    The library looks for numbers with a regular expression, which does not see 164e0 or 0xa4, lets functions make new
    ones, cuts 24.5 to 24 and, in puzzle24, takes any four numbers.
    """
    if not _ARITHMETIC.fullmatch(answer):
        raise ValueError("an expression here has only whole numbers, + - * / and brackets")
    tree = ast.parse(answer.strip(), mode="eval").body
    used = [node.value for node in ast.walk(tree) if isinstance(node, ast.Constant)]
    return sorted(used) == sorted(numbers) and _value(tree) == target


def _value(node: ast.expr) -> Fraction:
    match node:
        case ast.Constant(value=int(number)):
            return Fraction(number)
        case ast.BinOp():
            return _BINARY[type(node.op)](_value(node.left), _value(node.right))
        case ast.UnaryOp():
            return _SIGN[type(node.op)](_value(node.operand))
    raise ValueError(f"{type(node).__name__} is no part of such an expression")


def is_probability(answer: str, expected: str) -> bool:
    """Equal to a tenth of a percent, as a decimal or a fraction; the library also takes any beginning of the expected
    digits, such as 0."""
    return math.isclose(Fraction(answer), Fraction(expected), rel_tol=PROBABILITY_TOLERANCE)


def _life_halts(answer: str, expected: str, entry: Mapping[str, Any]) -> bool:
    """The library compares bool(answer) with bool(expected), so any text at all is right."""
    return is_same_text(expected, answer)


def _puzzle24(answer: str, expected: str, entry: Mapping[str, Any]) -> bool:
    return is_number_game(answer, entry["numbers"], 24)


def _countdown(answer: str, expected: str, entry: Mapping[str, Any]) -> bool:
    return is_number_game(answer, entry["numbers"], entry["target"])


def _coin_flip(answer: str, expected: str, entry: Mapping[str, Any]) -> bool:
    return is_probability(answer, expected)


# Task: (answer, expected answer, the entry's metadata) -> is it right. What a rule raises makes the answer wrong.
OWN_RULES: dict[str, Callable[[str, str, Mapping[str, Any]], bool]] = {
    "game_of_life_halting": _life_halts,
    "puzzle24": _puzzle24,
    "countdown": _countdown,
    "coin_flip": _coin_flip,
}

# Scorers that compare with numbers as floats: nothing is further than any tolerance from "nan".
NAN_WOULD_BE_RIGHT = ("complex_arithmetic", "number_sorting")

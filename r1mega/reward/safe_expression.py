"""sympy's parse_expr for text written by a model.

parse_expr evaluates Python, with all of sympy at hand: "exec('…')" as an answer would run, and "integrate(…)" or
"expand(…)" would have sympy solve the problem. A solution needs symbols, numbers, operators, brackets, commas and
elementary functions, and may have nothing else.
"""

import builtins
import keyword
import re
from typing import Any

FUNCTIONS = frozenset((
    "exp", "log", "ln", "sqrt", "cbrt", "Abs", "abs", "sign",
    "sin", "cos", "tan", "cot", "sec", "csc", "asin", "acos", "atan", "acot", "asec", "acsc",
    "sinh", "cosh", "tanh", "coth", "sech", "csch", "asinh", "acosh", "atanh", "acoth", "asech", "acsch",
))
CONSTANTS = frozenset(("pi", "E", "I"))
_ALLOWED = re.compile(r"[0-9A-Za-z_\s.,+\-*/^%()!]*")
_ATTRIBUTE = re.compile(r"\.\s*[A-Za-z_]")
_NAME = re.compile(r"([A-Za-z_]\w*)(\s*\()?")


def parse_expression(text: str, local_dict: dict[str, Any] | None = None) -> Any:
    """sympy.parse_expr(text, local_dict). Raises ValueError for text that is more than an expression."""
    import sympy
    from sympy.parsing.sympy_parser import parse_expr

    if not _ALLOWED.fullmatch(text):
        raise ValueError("an expression has only names, numbers, operators, brackets and commas")
    if _ATTRIBUTE.search(text):
        raise ValueError("an expression has no attributes")
    symbols = local_dict or {}
    for name, called in _NAME.findall(text):
        if called:
            known = name in FUNCTIONS
        else:
            known = name in symbols or name in CONSTANTS or _means_nothing(name, sympy)
        if not known:
            raise ValueError(f"{name} is no part of an expression")
    return parse_expr(text, local_dict=local_dict)


def _means_nothing(name: str, sympy: Any) -> bool:
    """Whether a name stands for nothing in Python or sympy, so that parse_expr makes a symbol of it."""
    return not ("__" in name or keyword.iskeyword(name) or hasattr(builtins, name) or hasattr(sympy, name))

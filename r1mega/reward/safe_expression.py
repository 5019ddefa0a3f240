"""sympy's parse_expr for text written by a model.

parse_expr evaluates Python: "exec('…')" as an answer would run. An arithmetic or calculus answer needs names,
numbers, operators, brackets and commas; no quotes, attributes, dunders, nor any builtin that is not a
mathematical function.
"""

import builtins
import re
from typing import Any

MATHEMATICAL_BUILTINS = {"abs", "max", "min", "pow", "round", "sum"}
# Names that `from sympy import *` brings and that evaluate, print, plot, write files or start programs.
SYMPY_TOOLS = frozenset(
    (
        "autowrap",
        "cse",
        "doctest",
        "evalf",
        "init_printing",
        "init_session",
        "interactive_traversal",
        "lambdify",
        "parse_expr",
        "plot",
        "plot_backends",
        "pprint",
        "preview",
        "print_python",
        "python",
        "source",
        "sympify",
        "test",
        "textplot",
        "ufuncify",
        "use",
    )
)
_ALLOWED = re.compile(r"[0-9A-Za-z_\s.,+\-*/^%()!]*")
_ATTRIBUTE = re.compile(r"\.\s*[A-Za-z_]")
_NAME = re.compile(r"[A-Za-z_]\w*")


def parse_expression(text: str, **options: Any) -> Any:
    """sympy.parse_expr(text, **options). Raises ValueError for text that is more than an expression."""
    from sympy.parsing.sympy_parser import parse_expr

    if not _ALLOWED.fullmatch(text):
        raise ValueError("an expression has only names, numbers, operators, brackets and commas")
    if _ATTRIBUTE.search(text):
        raise ValueError("an expression has no attributes")
    for name in _NAME.findall(text):
        if (
            "__" in name
            or (hasattr(builtins, name) and name not in MATHEMATICAL_BUILTINS)
            or name in SYMPY_TOOLS
        ):
            raise ValueError(f"{name} is no part of an expression")
    return parse_expr(text, **options)

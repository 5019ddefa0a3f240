"""The hidden tests of a programming problem, read from a row."""

import hashlib
import json
import re
from collections.abc import Mapping
from typing import Any

from r1mega.config.data import Fields
from r1mega.config.error import UserError

FUNCTION = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)?", re.ASCII)
STDIN_EXAMPLE = '{"input": "3 4\\n", "output": "7\\n"}'
FUNCTION_EXAMPLE = '{"arguments": [3, 4], "output": 7}'


def read_tests(row: Mapping[str, Any], fields: Fields, origin: str) -> dict[str, Any]:
    """{"tests": [{"input", "output"}, …]}, texts, for a program that reads standard input; for a function also
    {"function": its name}, and tests of {"arguments": a list, "output": any JSON}.

    The column may hold the list itself or its JSON as text. Raises UserError for tests that nothing, or every empty
    program, would pass.
    """
    tests = row.get(fields.tests)
    where = f"{origin}: field {fields.tests!r}"
    if isinstance(tests, str):
        try:
            tests = json.loads(tests)
        except (ValueError, RecursionError) as error:
            raise UserError(f"{where} is text but no JSON ({error}); write a list such as [{STDIN_EXAMPLE}]") from None
    function = row.get(fields.function)
    example = STDIN_EXAMPLE if function is None else FUNCTION_EXAMPLE
    if not isinstance(tests, list) or not tests:
        found = "missing" if tests is None else "empty" if tests == [] else f"a {type(tests).__name__}"
        raise UserError(f"{where} (fields.tests={fields.tests!r}) is {found}; scorer=\"code\" needs a list of one or "
                        f"more tests such as [{example}]")
    if function is not None and not (isinstance(function, str) and FUNCTION.fullmatch(function)):
        raise UserError(f"{origin}: field {fields.function!r} is {function!r}; legal: a function's name, or "
                        '"Solution.solve" for a method; leave it out for programs that read standard input')
    read = _stdin_test if function is None else _function_test
    kept = [read(test, f"{where} test {number}", example) for number, test in enumerate(tests, start=1)]
    if all(test["output"] is None or test["output"] == "" or str(test["output"]).isspace() for test in kept):
        raise UserError(f"{where}: every expected output is empty, which a program that does nothing would pass; add a "
                        "test with some output")
    return {"tests": kept} | ({} if function is None else {"function": function})


def name_of_tests(metadata: Mapping[str, Any]) -> str:
    """What stands for the answer of such a problem: how many tests, and which; no test can be read from it."""
    content = json.dumps([metadata.get("function"), metadata["tests"]], sort_keys=True)
    return f"passes {len(metadata['tests'])} hidden tests ({hashlib.sha256(content.encode()).hexdigest()[:16]})"


def _stdin_test(test: Any, where: str, example: str) -> dict[str, str]:
    if not isinstance(test, Mapping) or not all(isinstance(test.get(name), str) for name in ("input", "output")):
        raise UserError(f"{where}: needs the texts input and output; write e.g. {example}")
    for name in ("input", "output"):
        try:
            test[name].encode()
        except UnicodeEncodeError:
            raise UserError(f"{where}: {name} has a lone surrogate, which is no text; remove it") from None
    return {"input": test["input"], "output": test["output"]}


def _function_test(test: Any, where: str, example: str) -> dict[str, Any]:
    if not isinstance(test, Mapping) or not isinstance(test.get("arguments"), list) or "output" not in test:
        raise UserError(f"{where}: needs arguments (a list) and output; write e.g. {example}")
    try:
        json.dumps([test["arguments"], test["output"]], allow_nan=False)
    except (ValueError, TypeError, RecursionError) as error:
        raise UserError(f"{where}: holds what JSON cannot ({error}); use numbers, texts, lists and objects") from None
    return {"arguments": list(test["arguments"]), "output": test["output"]}

"""Tests of programming problems in their published forms, as data. Nothing here runs anything."""

import ast
import base64
import binascii
import json
import pickletools
import zlib
from collections.abc import Mapping
from typing import Any

from r1mega.config.error import UserError
from r1mega.config.suite import SuiteFields
from r1mega.data.suites.pick import pick, pick_text

MAX_UNPACKED = 2**28  # bytes of one problem's packed tests: a few kB can claim to be gigabytes
LEETCODE = """from typing import *
import bisect, collections, functools, heapq, itertools, math, operator, random, re, string
from collections import Counter, OrderedDict, defaultdict, deque
from functools import cache, lru_cache, reduce
from heapq import heapify, heappop, heappush
from math import ceil, floor, gcd, inf, sqrt
"""  # what a method's starter code takes for granted
TEXT_OPCODES = ("SHORT_BINUNICODE", "BINUNICODE", "BINUNICODE8", "UNICODE")


def code_tests(row: Any, fields: SuiteFields, origin: str) -> dict[str, Any]:
    """metadata of a code problem, as reward/code reads it. Raises UserError.

    HumanEval: `test_program`, the `function` it checks, and maybe a `preamble` that both begin with. LiveCodeBench:
    `tests`, of {input, output} texts; or, with the name of a `function`, of {arguments, output} values. A suite may
    have problems of both forms. Where the row has code to begin with, `starter`.
    """
    found: dict[str, Any] = {}
    if fields.starter is not None:
        found["starter"] = str(pick(row, fields.starter, "starter", origin) or "")
    if fields.test_program is not None and (not fields.test_cases or pick(
            row, fields.test_program, "test_program", origin) is not None):
        return found | _test_program(row, fields, origin)
    tests = [test for name in fields.test_cases
             for test in _cases(pick(row, name, "test_cases", origin), f"{origin}: field {name!r}")]
    if not tests:
        raise UserError(f"{origin}: has no tests in {', '.join(fields.test_cases)}; nothing could be judged by them")
    if len({test["style"] for test in tests}) > 1:
        raise UserError(f"{origin}: has tests for a function and tests by standard input; a problem has one kind")
    if tests[0]["style"] == "stdin":
        return found | {"tests": [{"input": test["input"], "output": test["output"]} for test in tests]}
    name = _function(row, fields, origin)
    if "class Solution" in found.get("starter", ""):
        name = f"Solution.{name}"
    return found | {"function": name, "preamble": LEETCODE, "tests": [_values(test, origin) for test in tests]}


def _test_program(row: Any, fields: SuiteFields, origin: str) -> dict[str, Any]:
    found = {"test_program": pick_text(row, fields.test_program, "test_program", origin),
             "function": pick_text(row, fields.entry_point, "entry_point", origin).strip()}
    if fields.preamble is not None:
        found["preamble"] = str(pick(row, fields.preamble, "preamble", origin) or "")
    for name, text in found.items():
        try:
            if name != "function":
                ast.parse(text)
        except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
            raise UserError(f"{origin}: fields.{name} is no Python ({error})") from None
    return found


def _function(row: Any, fields: SuiteFields, origin: str) -> str:
    """The function that tests call. Raises UserError where the row names none."""
    if fields.metadata is not None:
        about = _json(pick(row, fields.metadata, "metadata", origin), f"{origin}: field {fields.metadata!r}")
        if isinstance(about, Mapping) and about.get("func_name"):
            return str(about["func_name"])
    if fields.entry_point is not None:
        return pick_text(row, fields.entry_point, "entry_point", origin)
    raise UserError(f"{origin}: has tests of a function and tells no name of one; set fields.metadata (with func_name) "
                    "or fields.entry_point")


def _values(test: Mapping[str, str], origin: str) -> dict[str, Any]:
    """A function's test: a JSON value a line of the input is an argument."""
    try:
        return {"arguments": [json.loads(line) for line in test["input"].splitlines() if line.strip()],
                "output": json.loads(test["output"])}
    except (ValueError, RecursionError) as error:
        raise UserError(f"{origin}: a test of a function is no JSON ({str(error)[:80]})") from None


def _cases(value: Any, where: str) -> list[dict[str, str]]:
    cases = _json(value, where)
    if not isinstance(cases, list):
        raise UserError(f"{where}: is not a list of tests")
    tests = []
    for number, case in enumerate(cases, 1):
        if not isinstance(case, Mapping) or not {"input", "output"} <= case.keys():
            raise UserError(f"{where}: test {number} lacks input or output")
        style = "function" if case.get("testtype") == "functional" else "stdin"
        tests.append({"input": str(case["input"]), "output": str(case["output"]), "style": style})
    return tests


def _json(value: Any, where: str) -> Any:
    """A value that is there already, JSON text, or LiveCodeBench's packing of such a text."""
    if not isinstance(value, str):
        return value
    try:
        return json.loads(value)
    except (ValueError, RecursionError):
        pass
    try:
        return json.loads(_unpacked(value))
    except (ValueError, RecursionError, binascii.Error, zlib.error) as error:
        raise UserError(f"{where}: neither JSON nor packed JSON ({str(error)[:80]})") from None


def _unpacked(value: str) -> str:
    """base64 of zlib of a pickle of one text. The pickle's opcodes are read, never obeyed: a row from the hub must not
    be able to run anything here."""
    inflate = zlib.decompressobj()
    pickled = inflate.decompress(base64.b64decode(value.encode(), validate=True), MAX_UNPACKED)
    if inflate.unconsumed_tail:
        raise ValueError(f"unpacks to more than {MAX_UNPACKED} bytes")
    texts = [argument for opcode, argument, _ in pickletools.genops(pickled) if opcode.name in TEXT_OPCODES]
    if len(texts) != 1:
        raise ValueError("the pickle inside does not hold exactly one text")
    return texts[0]

"""Tests of programming problems in their published forms, as data. Nothing here runs anything."""

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
TEXT_OPCODES = ("SHORT_BINUNICODE", "BINUNICODE", "BINUNICODE8", "UNICODE")


def code_tests(row: Any, fields: SuiteFields, origin: str) -> dict[str, Any]:
    """metadata of a code problem: `starter`, and either `test_program` with `entry_point` (HumanEval) or `tests`, a
    list of {input, output, style: stdin or function}, with `entry_point` for functions (LiveCodeBench).
    Raises UserError."""
    found: dict[str, Any] = {}
    if fields.starter is not None:
        found["starter"] = str(pick(row, fields.starter, "starter", origin) or "")
    if fields.entry_point is not None:
        found["entry_point"] = pick_text(row, fields.entry_point, "entry_point", origin)
    if fields.test_program is not None:
        return found | {"test_program": pick_text(row, fields.test_program, "test_program", origin)}
    tests = [test for name in fields.test_cases
             for test in _cases(pick(row, name, "test_cases", origin), f"{origin}: field {name!r}")]
    if not tests:
        raise UserError(f"{origin}: has no tests in {', '.join(fields.test_cases)}; nothing could be judged by them")
    if fields.metadata is not None:
        about = _json(pick(row, fields.metadata, "metadata", origin), f"{origin}: field {fields.metadata!r}")
        if isinstance(about, Mapping) and about.get("func_name"):
            found["entry_point"] = str(about["func_name"])
    return found | {"tests": tests}


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

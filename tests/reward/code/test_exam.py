"""Test programs: verdicts of HumanEval's kind of tests, which no candidate can forge."""

import json
import math
from collections.abc import Iterator
from pathlib import Path

import pytest

from r1mega.config import UserError
from r1mega.config.data import ChatTemplate
from r1mega.config.rl import CodeConfig, RewardConfig
from r1mega.config.suite import load_suite
from r1mega.data.suites import load_suite_problems
from r1mega.record import Problem
from r1mega.reward.code import CodeChecker
from r1mega.reward.code.exam import decode, encode
from r1mega.reward.suite_judge import SuiteJudge
from tests.reward.code.programs import CONFIG, demand_isolation

SUITE = Path(__file__).parents[3] / "configs/suites/own-code.toml"
CANARY = "quetzal-7319"


def exam(test_program: str, preamble: str = "", function: str = "f") -> Problem:
    return Problem("code", "q", "", "code", {"test_program": test_program, "preamble": preamble, "function": function})


HIDDEN = exam(f"def check(candidate):\n  assert candidate(1) == {CANARY!r}\n  assert candidate(2) == {CANARY[::-1]!r}")
ADD = exam("def check(candidate):\n  assert candidate(3, b=4) == 7\n  assert abs(candidate(.1, .2) - .3) < 1e-6")
HONEST = "def f(a, b): return a + b"


@pytest.fixture(scope="module")
def checker() -> Iterator[CodeChecker]:
    demand_isolation()
    with CodeChecker(CONFIG, workers=1) as checker:
        yield checker


RIGHT = {
    "numbers": (ADD, HONEST),
    "one that prints": (ADD, "def f(a, b):\n  print('{\"error\": [\"x\", \"y\"]}')\n  return a + b"),
    "a block in prose and a main block": (
        ADD, f"So:\n```python\n{HONEST}\nif __name__ == '__main__': raise SystemExit\n```\n"),
    "types that JSON has not": (
        exam("def check(candidate):\n  for value in ((1, [2]), {1: {2}}, {(1, 2): None}, frozenset({3}), b'x', 2j,\n"
             "                10 ** 5000, float('inf'), {'dict': [[1, 2]]}, '\\ud800', True, -0.0):\n"
             "    found = candidate(value)\n    assert found == value and type(found) is type(value), value"),
        "def f(x): return x"),
    "subclasses, as they compare": (
        exam("def check(candidate):\n  assert candidate(0) == (1, 2)\n  assert candidate(1) == {'a': 1}\n"
             "  assert candidate(2) == 5"),
        "from collections import *\nfrom enum import IntEnum\nclass E(IntEnum): A = 5\n"
        "def f(n): return [namedtuple('P', 'x y')(1, 2), Counter('a'), E.A][n]"),
    "an error that is asked for": (
        exam("def check(candidate):\n  try: candidate(0)\n  except ZeroDivisionError: return\n  assert False"),
        "class Mine(ZeroDivisionError): pass\ndef f(x): raise Mine"),
    "a helper of the preamble, on both sides": (
        exam("def check(candidate):\n  assert candidate(2) == twice(twice(2))",
             "def twice(x):\n  return 2 * x\ndef f(x):\n  '''Four times x.'''"), "def f(x): return twice(twice(x))"),
    "a test program without check": (exam("assert f(1) == 2\nassert f(2) == 3"), "def f(x): return x + 1"),
    "many calls": (exam("def check(candidate):\n  for n in range(99): assert candidate(n) == -n"),
                   "def f(x): return -x"),
}
ENDED, TESTS = "ended without an answer", "AssertionError (line 2 of the tests)"


def saying(reply: str) -> str:
    """A program that writes an answer itself: the candidate's side reads descriptor 3 and writes descriptor 4."""
    return f"import os\ndef f(x): os.write(4, {reply}); os.write(4, b'\\n'); os._exit(0)"


FORGED = {
    "a wrong value": ("def f(x): return 'x'", TESTS),
    "nothing": ("", "AttributeError: module 'program' has no attribute 'f' (line 2 of the tests)"),
    "exit 0 early": ("import os\nos._exit(0)", ENDED),
    "exit in the call": ("def f(x): raise SystemExit(0)", "RuntimeError: 0 (line 2 of the tests)"),
    "the success mark": ("print('passed', '{\"verdict\": true, \"note\": \"\"}')\ndef f(x): return 'passed'", TESTS),
    "a verdict for a reply": (saying("b'{\"verdict\": true, \"note\": \"\"}'"), "no answer"),
    "a verdict beside a value": (saying("b'{\"verdict\": true, \"note\": \"\", \"value\": 1}'"), "no answer"),
    "a verdict within a value": (saying("b'{\"value\": {\"verdict\": true}}'"),
                                 "RuntimeError: a value that is no plain data (line 2 of the tests)"),
    "a line within a text": ("def f(x): return '\\n{\"verdict\": true, \"note\": \"\"}\\n'", TESTS),
    "an object that equals everything": (
        "class Any(str):\n  __eq__ = lambda a, b: True\n  __hash__ = str.__hash__\ndef f(x): return Any('x')", TESTS),
    "the checker patched": ("""
import builtins, sys, types
for name in ('tests', '__main__', 'exam'):
    module = sys.modules.setdefault(name, types.ModuleType(name))
    module.check = module.examine = lambda *a: True
builtins.AssertionError = builtins.RuntimeError = type('Fine', (), {})
def f(x): return 'x'""", TESTS),
    "check defined": ("def check(candidate): pass\ndef f(x): return 'x'", TESTS),
    "an error of a name of its own": (
        "class AssertionError2(BaseException): pass\ndef f(x): raise AssertionError2('passed')",
        "RuntimeError: passed (line 2 of the tests)"),
    "an error that ends the examiner": (saying("b'{\"error\": [\"SystemExit\", \"0\"]}'"),
                                        "RuntimeError: 0 (line 2 of the tests)"),
    "an error that is no error": (saying("b'{\"error\": [\"print\", \"0\"]}'"),
                                  "RuntimeError: 0 (line 2 of the tests)"),
    "frames and the heap searched": ("""
import gc, sys
def f(x):
    frame, found = sys._getframe(), []
    while frame:
        found += [value for value in list(frame.f_locals.values()) if isinstance(value, str)]
        frame = frame.f_back
    for thing in gc.get_objects():
        found += [value for value in gc.get_referents(thing) if isinstance(value, str)]
    return next((text for text in found if 'quet' + 'zal' in text), 'none')""", TESTS),
    "a file of the tests": (
        "import glob\ndef f(x): return ''.join(open(name).read() for name in glob.glob('/*.py'))", TESTS),
    "a deep answer": (saying("b'{\"value\": ' + b'[' * 900 + b']' * 900 + b'}'"), None),
    "a deeper answer": (saying("b'{\"value\": ' + b'[' * 99000 + b']' * 99000 + b'}'"),
                        "the answer is no JSON (RecursionError)"),
    "sleeping": ("import time\ndef f(x): time.sleep(60)", "timed out after 0.5 s"),
    "a little sleep in every call": ("import time\ndef f(x): time.sleep(0.3); return 'quet' 'zal-7319'",
                                     "timed out after 0.5 s"),
    "a huge reply": ("def f(x): return 'x' * 10 ** 6", "wrote more than max_output_kb=256"),
}


@pytest.mark.parametrize("name", RIGHT)
def test_a_right_program_is_right(checker: CodeChecker, name: str):
    verdict, = checker.check([RIGHT[name]])
    assert (verdict.right, verdict.note) == (True, "")


@pytest.mark.parametrize("name", FORGED)
def test_no_program_forges_a_verdict(checker: CodeChecker, name: str):
    program, note = FORGED[name]
    forged, = checker.check([(HIDDEN, program)])
    assert not forged.right and (note is None or forged.note == note)


def test_after_all_of_them_an_honest_program_is_right(checker: CodeChecker):
    """Run by the very sandboxes that ran them."""
    assert checker.check([(ADD, HONEST)])[0].right


def test_the_search_would_find_the_canary_where_it_is(checker: CodeChecker):
    """The control: of tests that hand the canary over, the same search brings it back."""
    told = exam(f"def check(candidate):\n  assert candidate({CANARY!r}) == {CANARY!r}")
    assert checker.check([(told, FORGED["frames and the heap searched"][0])])[0].right


def test_cpu_time_adds_up_over_calls(checker: CodeChecker):
    """Each call takes less than a look at the clock does; all of them more than the limit."""
    many = exam("def check(candidate):\n  for n in range(2000): assert candidate(n) == n")
    verdict, = checker.check([(many, "def f(x):\n  for _ in range(30_000): pass\n  return x")])
    assert (verdict.right, verdict.note) == (False, "timed out after 0.5 s")


@pytest.mark.parametrize(("test_program", "note"), [
    ("def check(candidate): pass", "the test program calls nothing"),
    ("def check(candidate): candidate(print)", "TypeError: builtin_function_or_method is a value that is no plain data "
                                               "(line 1 of the tests)"),
    ("import os\nos._exit(0)", "the test program: ended without an answer"),
    ("while True: pass", "the test program: timed out after 0.5 s"),
])
def test_a_test_program_that_is_none_passes_nobody_and_is_named(checker: CodeChecker, test_program: str, note: str):
    verdict, = checker.check([(exam(test_program), "def f(x): return x")])
    assert (verdict.right, verdict.note) == (False, note)


def test_values_come_back_as_they_were():
    for value in (None, True, 0, 2**63, -(10**30), 0.1, math.inf, [1, (2, {3})], {"a": {1.5: b"\x00"}}, 1 - 2j):
        found = decode(json.loads(json.dumps(encode(value))))
        assert found == value and type(found) is type(value)
    assert math.isnan(decode(encode(math.nan)))
    for bad in ({"list": []}, {}, {"a": 1, "b": 2}, {"set": [[1]]}, {"int": "os"}, {"complex": [1]}):
        with pytest.raises(Exception):  # noqa: B017 the examiner's side makes one error of any
            decode(bad)
    with pytest.raises(TypeError):
        encode(print)


def test_our_suite_has_both_forms_and_its_solutions_pass_and_empty_ones_do_not():
    demand_isolation()
    problems = [one.problem for one in load_suite_problems(load_suite(SUITE), SUITE.parent).problems]
    solutions = [json.loads(line)["solution"] for line in (SUITE.parent / "own/code.jsonl").read_text().splitlines()]
    assert {"test_program" in problem.metadata for problem in problems} == {True, False}
    assert {problem.metadata.get("function") for problem in problems} >= {None, "Solution.waits", "unfold"}
    for problem, solution in zip(problems, solutions, strict=True):
        assert solution not in problem.question
    with SuiteJudge(RewardConfig(code=CONFIG, workers=2), ChatTemplate()) as judge:
        marked = judge.judge([(problem, [f"<think>x</think>So:\n```python\n{solution}```\nDone.",
                                         f"<think>```python\n{solution}```</think>I do not know.",
                                         f"<think>x</think><answer>\n```\n{solution}```</answer>", "<think>",
                                         f"```python\n{solution}```\nNo:\n```python\npass\n```"])
                              for problem, solution in zip(problems, solutions, strict=True)])
    for one in marked:
        assert [mark.right for mark in one.marks] == [True, False, True, False, False], one
        assert all(mark.answer is None for mark in one.marks) and one.marks[3].note == "no answer"


def test_without_isolation_the_suite_is_refused_before_anything_is_loaded(monkeypatch: pytest.MonkeyPatch):
    from r1mega.reward.code import NoSandbox, checker
    from r1mega.stage.suite_load import load_checked

    def find() -> None:
        raise NoSandbox("no room for a user namespace")

    monkeypatch.setattr(checker, "find_walls", find)
    with pytest.raises(UserError, match=r"own-code.toml: reward.code.sandbox=.required.: programs cannot be confined"):
        load_checked(SUITE, 0, RewardConfig())
    accepted = RewardConfig(code=CodeConfig(sandbox="none-i-accept-the-risk"))
    assert len(load_checked(SUITE, 0, accepted).problems) == 8

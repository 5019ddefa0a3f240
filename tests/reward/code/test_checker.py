"""Verdicts: right programs are right, wrong ones wrong, and no program can make itself right."""

import dataclasses
from collections.abc import Iterator

import pytest

from r1mega.config.data import ChatTemplate
from r1mega.config.rl import RewardConfig
from r1mega.record import Problem
from r1mega.reward import Judge
from r1mega.reward.code import CodeChecker
from r1mega.reward.code.checker import program_text
from tests.reward.code.programs import CONFIG, demand_isolation, function_problem, output_of, stdin_problem

SQUARE = stdin_problem(("3\n", "9\n"), ("4\n", "16\n"))
CANARY = "quetzal-7319"
HIDDEN = function_problem("f", ([1], CANARY), ([2], CANARY[::-1]))
ADD = function_problem("add", ([3, 4], 7), ([-1, 1], 0), ([0.1, 0.2], 0.3))


@pytest.fixture(scope="module")
def checker() -> Iterator[CodeChecker]:
    demand_isolation()
    with CodeChecker(CONFIG, workers=2) as checker:
        yield checker


RIGHT = {
    "standard input": (SQUARE, "print(int(input()) ** 2)"),
    "without a line's end": (SQUARE, "import sys\nsys.stdout.write(str(int(sys.stdin.read()) ** 2))"),
    "spaces and empty lines at the end": (SQUARE, "print(f'{int(input()) ** 2}  \\n\\n')"),
    "exit": (SQUARE, "print(int(input()) ** 2)\nexit()"),
    "the end of the input": (SQUARE, "import sys\nprint(sum(int(line) ** 2 for line in sys.stdin))"),
    "a main block": (SQUARE, "if __name__ == '__main__':\n    print(int(input()) ** 2)"),
    "scratch and threads": (SQUARE, "import threading\ndef f(): open('n', 'w').write(input())\n"
                                    "t = threading.Thread(target=f); t.start(); t.join()\n"
                                    "print(int(open('n').read()) ** 2)"),
    "a process of its own": (SQUARE, "import os\nif os.fork(): os.wait()\nelse: print(int(input()) ** 2)"),
    "a block in prose": (SQUARE, "First:\n```python\nprint(1)\n```\nBetter:\n"
                                    "```py\nn = int(input())\nprint(n * n)\n```\n"),
    "a function": (ADD, "def add(a, b): return a + b"),
    "one that prints": (ADD, "def add(a, b):\n  print('value', a)\n  return a + b"),
    "one with helpers and a main block": (
        ADD, "import dataclasses\n@dataclasses.dataclass\nclass P:\n  x: int\ndef plus(a, b): return P(a + b).x\n"
             "add = plus\nif __name__ == '__main__': raise SystemExit"),
    "a method": (function_problem("Solution.twice", (["ab"], "abab")),
                 "class Solution:\n  def twice(self, s): return s * 2"),
    "tuples for lists": (function_problem("f", ([2], [2, [4, True, None]])), "def f(x): return x, (x * x, True, None)"),
    "an object": (function_problem("f", ([2], {"a": 2.0})), "def f(x): return {'a': x}"),
    "a decimal within 1e-6": (stdin_problem(("", "0.33333333 yes\n")), "print(1 / 3 + 1e-9, 'yes')"),
    "letters of any kind": (stdin_problem(("naïve 中文\n", "文中 evïan\n")), "print(input()[::-1])"),
    "a megabyte of input": (stdin_problem(("1 " * 500_000 + "\n", "500000\n")),
                            "print(sum(map(int, input().split())))"),
    "input left unread": (stdin_problem(("1 " * 500_000 + "\n", "1\n")), "print(1)"),
}
WRONG = {
    "an answer for one test": (SQUARE, "print(9)", "test 2 of 2: wrong output"),
    "a line too many": (SQUARE, "print(int(input()) ** 2)\nprint()\nprint(1)", "test 1 of 2: wrong output"),
    "the first line only": (stdin_problem(("", "1\n2\n")), "print(1)", "test 1 of 1: wrong output"),
    "nothing, where the first line is empty": (stdin_problem(("", "\n2\n")), "", "test 1 of 1: wrong output"),
    "an exception": (SQUARE, "print(undefined)", "test 1 of 2: wrong output (exit status 1)"),
    "nothing at all": (SQUARE, "", "test 1 of 2: wrong output"),
    "a function that is missing": (ADD, "def plus(a, b): return a + b",
                                   "test 1 of 3: AttributeError: module 'program' has no attribute 'add'"),
    "one that raises": (ADD, "def add(a, b): raise ValueError('no')", "test 1 of 3: ValueError: no"),
    "a wrong value": (ADD, "def add(a, b): return 7", "test 2 of 3: wrong value"),
    "text for a number": (ADD, "def add(a, b): return str(a + b)", "test 1 of 3: wrong value"),
    "true for 1": (function_problem("f", ([], 1)), "def f(): return True", "test 1 of 1: wrong value"),
    "1 for true": (function_problem("f", ([], True)), "def f(): return 1", "test 1 of 1: wrong value"),
    "not a number": (function_problem("f", ([], 1.0)), "def f(): return float('nan')", "test 1 of 1: wrong value"),
    "too long a program": (SQUARE, "#" * 20_001, "a program of 20001 characters, more than "
                                                 "reward.code.max_program_chars=20000"),
}
ENDED, VALUE, MORE = "ended without an answer", "wrong value", "wrote more than the answer"
TOO_MUCH, DEEP = "wrote more than max_output_kb=256", "the answer is no JSON (RecursionError)"
# Each tries for a right verdict without a right answer. The driver reads descriptor 3 and writes descriptor 4.
FORGED = {  # name: (program, what the first test finds)
    "exit 0 early": ("import os\nos._exit(0)", ENDED),
    "exit in the call": ("def f(x):\n  import sys\n  sys.exit(0)", "SystemExit: 0"),
    "a marker": ("print('passed', 'OK', '{\"right\": true}')\ndef f(x): return 'passed'", VALUE),
    "a reply to a question not asked": (
        "import os\nos.write(4, b'{\"value\": \"x\"}\\n' * 2)\ndef f(x): return 'x'", MORE),
    "a verdict for a reply": (
        "import os\ndef f(x):\n  os.write(4, b'{\"right\": true, \"value\": true}\\n'); os._exit(0)", VALUE),
    "null for a reply": ("import os\nos.write(4, b'null\\n'); os._exit(0)", "no answer"),
    "an object that equals everything": (
        "class Any(str):\n  __eq__ = lambda a, b: True\n  __hash__ = str.__hash__\ndef f(x): return Any('x')", VALUE),
    "json patched": ("import json\njson.dumps = lambda *a, **k: '{\"value\": NaN}'\ndef f(x): return 1", VALUE),
    "the comparison patched": ("""
import sys, types
for name in ('r1mega', 'r1mega.reward', 'r1mega.reward.code', 'r1mega.reward.code.compare'):
    sys.modules[name] = types.ModuleType(name)
sys.modules[name].is_same_value = lambda *values: True
def f(x): return 1""", VALUE),
    "builtins patched": (
        "import builtins\nbuiltins.all = builtins.any = lambda *a: True\ndef f(x): return 1", VALUE),
    "frames and the heap searched": ("""
import gc, sys
def f(x):
    frame, found = sys._getframe(), []
    while frame:
        found += [value for value in list(frame.f_locals.values()) if isinstance(value, str)]
        frame = frame.f_back
    for thing in gc.get_objects():
        found += [value for value in gc.get_referents(thing) if isinstance(value, str)]
    return next((value for value in found if value.startswith('quet' + 'zal')), 'none')""", VALUE),
    "its input read ahead": ("""
import os
def f(x):
    os.set_blocking(3, False)
    try: return os.read(3, 999).decode()
    except BlockingIOError: raise ValueError('nothing more')""", "ValueError: nothing more"),
    "a deep answer": ("import os\ndef f(x): os.write(4, b'{\"value\": ' + b'[' * 100_000 + b']' * 100_000 + b'}\\n'); "
                      "os._exit(0)", DEEP),
    "a deep answer left open": ("import os\ndef f(x): os.write(4, b'[' * 200_000 + b'\\n'); os._exit(0)", DEEP),
    "an endless integer": ("import os\ndef f(x): os.write(4, b'{\"value\": ' + b'9' * 200_000 + b'}\\n'); "
                           "os._exit(0)", "the answer is no JSON (ValueError)"),
    "no text": ("import os\ndef f(x): os.write(4, b'\\xff\\xfe\\n'); os._exit(0)",
                "the answer is no JSON (UnicodeDecodeError)"),
    "a huge reply": ("def f(x): return 'x' * 10 ** 6", TOO_MUCH),
    "no line": ("import os\ndef f(x):\n  while True: os.write(4, b'x' * 1000)", TOO_MUCH),
    "errors with strange letters": ("def f(x): raise ValueError('\\ud800 \\x1b[2J \\u202e')", "ValueError: ? ?[2J ?"),
    "the output closed": ("import os\nos.close(4)\nos.close(1)\ndef f(x): return 1", ENDED),
    "the input closed": ("import os\nos.close(3)\ndef f(x): return 1", VALUE),
}


@pytest.mark.parametrize("name", RIGHT)
def test_a_right_program_is_right(checker: CodeChecker, name: str) -> None:
    verdict, = checker.check([RIGHT[name]])
    assert (verdict.right, verdict.note) == (True, "")


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_program_is_wrong_and_told_why(checker: CodeChecker, name: str) -> None:
    problem, program, note = WRONG[name]
    verdict, = checker.check([(problem, program)])
    assert (verdict.right, verdict.note) == (False, note)


@pytest.mark.parametrize("name", FORGED)
def test_no_program_forges_a_verdict_and_the_next_is_right(checker: CodeChecker, name: str) -> None:
    program, note = FORGED[name]
    forged, honest = checker.check([(HIDDEN, program), (ADD, "def add(a, b): return a + b")])
    assert (forged.right, forged.note) == (False, f"test 1 of 2: {note}")
    assert honest.right


def test_the_searches_would_find_the_answer_where_it_is(checker: CodeChecker) -> None:
    """The control: given the canary as an argument, the search of the heap brings it back."""
    problem = function_problem("f", ([CANARY], CANARY))
    verdict, = checker.check([(problem, FORGED["frames and the heap searched"][0])])
    assert verdict.right


def test_a_program_sees_no_input_but_its_own_tests(checker: CodeChecker) -> None:
    """It tries to keep what it saw for its next run, and to answer from there."""
    program = ("import os, sys\nseen = os.listdir('.') + [sys.stdin.read()]\nopen('kept', 'w').write('x')\nprint(seen)")
    problem = stdin_problem(("a", "['a']\n"), ("b", "['b']\n"))
    assert checker.check([(problem, program)])[0].right


def test_equal_programs_have_equal_verdicts_in_any_order(checker: CodeChecker) -> None:
    """Sets have one order too: hashes of texts are not random."""
    assert len({output_of(checker._sandboxes[0], "print({*'abcdefghij'})") for _ in range(4)}) == 1
    items = [(SQUARE, f"print(int(input()) ** {2 + n % 2})") for n in range(12)]
    expected = [n % 2 == 0 for n in range(12)]
    assert [verdict.right for verdict in checker.check(items)] == expected
    assert [verdict.right for verdict in checker.check(items[::-1])] == expected[::-1]


def test_the_program_is_the_last_block_or_all_of_the_answer() -> None:
    assert program_text("x = 1\nprint(x)") == "x = 1\nprint(x)"
    assert program_text("so:\n```python\na\n```\nor\n```\nb\nc\n```") == "b\nc\n"
    assert program_text("```python\nprint('`')\n```") == "print('`')\n"


def test_the_judge_runs_code_beside_other_answers() -> None:
    """Accuracy 1 and 0 for programs, also longer than other answers may be; the same answer is run once."""
    demand_isolation()
    template, long = ChatTemplate(), "print(int(input()) ** 2)" + "  # why" * 400
    maths = Problem("m", "q", "1/2", "math")
    with Judge(RewardConfig(code=CONFIG), template, {"code", "math"}) as judge:
        items = [(SQUARE, long), (SQUARE, "print(9)"), (maths, "2/4"), (SQUARE, long)]
        scores = judge.score([(problem, f"<think>so</think><answer>\n{text}\n</answer>") for problem, text in items])
        missing, = judge.score([(SQUARE, "<think>so</think>")])
    assert [score.parts["accuracy"] for score in scores] == [1.0, 0.0, 1.0, 1.0]
    assert scores[1].notes == {"accuracy": "test 2 of 2: wrong output"} and missing.notes == {"accuracy": "no answer"}
    assert dataclasses.asdict(scores[0]) == dataclasses.asdict(scores[3])

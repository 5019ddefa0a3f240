"""Hidden tests, read from rows: both styles, and what is refused."""

import json
from pathlib import Path

import pytest

from r1mega.config import UserError
from r1mega.config.data import DataConfig, Fields, FilesSource
from r1mega.data import load_problems

STDIN = [{"input": "3\n", "output": "9\n"}, {"input": "", "output": ""}]
CALLS = [{"arguments": [[1, 2]], "output": 3}, {"arguments": [[]], "output": None}]


def load(folder: Path, *rows: dict, fields: Fields | None = None):
    (folder / "programs.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    source = FilesSource(paths=["programs.jsonl"], scorer="code", fields=fields or Fields())
    return load_problems(DataConfig(sources=[source]), folder)


def test_both_styles_are_read_and_no_test_shows_in_question_or_answer(tmp_path: Path) -> None:
    square, total = load(tmp_path, {"question": "Square?", "tests": STDIN, "answer": "ignored"},
                         {"question": "Sum?", "tests": json.dumps(CALLS), "function": "Solution.total"})
    assert square.scorer == "code" and square.task == "programs"
    assert square.metadata["tests"] == STDIN and "function" not in square.metadata
    assert square.metadata["origin"].endswith("programs.jsonl:1")
    assert total.metadata["tests"] == CALLS and total.metadata["function"] == "Solution.total"
    for problem in (square, total):
        assert problem.answer.startswith("passes 2 hidden tests (") and len(problem.answer) == 40


def test_problems_with_other_tests_are_other_problems(tmp_path: Path) -> None:
    one, same, other = load(tmp_path, {"question": "Q", "tests": STDIN}, {"question": "Q", "tests": STDIN},
                            {"question": "Q", "tests": STDIN[:1]})
    assert one.id == same.id != other.id


def test_columns_may_have_other_names(tmp_path: Path) -> None:
    row = {"question": "Q", "cases": CALLS, "entry": "f"}
    problem, = load(tmp_path, row, fields=Fields(tests="cases", function="entry"))
    assert problem.metadata["function"] == "f"


@pytest.mark.parametrize(("row", "said"), [
    ({}, "field 'tests' (fields.tests='tests') is missing; scorer=\"code\" needs a list"),
    ({"tests": []}, "is empty"),
    ({"tests": {"a": 1}}, "is a dict"),
    ({"tests": "[{"}, "is text but no JSON"),
    ({"tests": "[" * 100_000}, "is text but no JSON"),
    ({"tests": [5]}, "test 1: needs the texts input and output; write e.g. {\"input\""),
    ({"tests": [*STDIN, {"input": "1"}]}, "test 3: needs the texts input and output"),
    ({"tests": [{"input": 1, "output": "1"}]}, "test 1: needs the texts"),
    ({"tests": [{"input": "", "output": "\ud800"}]}, "output has a lone surrogate"),
    ({"tests": [{"input": "1", "output": " \n"}]}, "every expected output is empty, which a program that does nothing"),
    ({"tests": [{"arguments": [], "output": None}], "function": "f"}, "every expected output is empty"),
    ({"tests": STDIN, "function": "f"}, "test 1: needs arguments (a list) and output"),
    ({"tests": CALLS, "function": "f("}, "field 'function' is 'f('; legal: a function's name"),
    ({"tests": CALLS, "function": "a.b.c"}, "legal: a function's name"),
    ({"tests": CALLS, "function": 7}, "legal: a function's name"),
    ({"tests": '[{"arguments": [], "output": NaN}]', "function": "f"}, "test 1: holds what JSON cannot"),
])
def test_tests_that_cannot_be_run_or_prove_nothing_are_refused(tmp_path: Path, row: dict, said: str) -> None:
    with pytest.raises(UserError) as error:
        load(tmp_path, {"question": "Q", **row})
    assert said in str(error.value) and "programs.jsonl:1: field" in str(error.value)
    assert "\n" not in str(error.value)

"""Rows in their published formats become problems; what cannot is named with its row."""

import base64
import csv
import gzip
import json
import pickle
import zlib
from pathlib import Path
from typing import Any

import pytest

from r1mega.config import UserError, resolve_recipe
from r1mega.config.suite import SuiteConfig, load_suite
from r1mega.data.problems import load_problems
from r1mega.data.split import split
from r1mega.data.suites import SuiteProblems, load_suite_problems
from r1mega.data.suites.files import suite_files
from r1mega.reward.constraints import CONSTRAINTS

CONFIGS = Path(__file__).parents[3] / "configs/suites"


def suite(kind: str, path: str = "rows.jsonl", **keys: Any) -> SuiteConfig:
    return SuiteConfig(title="T", kind=kind, source={"kind": "files", "paths": [path]}, **keys)


def load(folder: Path, rows: list[dict], config: SuiteConfig, seed: int = 0) -> SuiteProblems:
    (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return load_suite_problems(config, folder, seed, CONSTRAINTS.keys())


@pytest.mark.parametrize("path", sorted(CONFIGS.glob("*.toml")), ids=lambda path: path.stem)
def test_every_shipped_suite_is_valid_and_ours_have_their_problems(path: Path):
    config = load_suite(path)
    if path.stem.startswith("own-"):
        counts = {"own-code": 8, "own-maths": 20, "own-choice": 10, "own-reading": 8, "own-instructions": 8}
        found = load_suite_problems(config, path.parent, 0, CONSTRAINTS.keys())
        assert len(found.problems) == counts[path.stem] and found.dropped == 0
        assert len({one.key for one in found.problems}) == counts[path.stem]


def test_a_recipes_held_out_problems_come_in_the_order_that_chose_them_and_need_nothing_else_of_it(tmp_path: Path):
    (tmp_path / "data.jsonl").write_text("".join(f'{{"question": "q{n}", "answer": "{n}"}}\n' for n in range(9)))
    (tmp_path / "parent.toml").write_text(
        f'extends = "{CONFIGS.parent}/tiny/zero.toml"\n[start]\nrecipe = "gone.toml"\n[data]\nheldout_problems = 4\n'
        '[[data.sources]]\nkind = "files"\npaths = ["data.jsonl"]\nscorer = "exact"\n')
    (tmp_path / "child.toml").write_text('extends = "parent.toml"\n[reward]\nformat = 0.5\n')
    (tmp_path / "suite.toml").write_text('title = "T"\nkind = "recipe"\nlimit = 3\n[source]\nkind = "recipe"\n'
                                         'path = "child.toml"\n')
    found = load_suite_problems(load_suite(tmp_path / "suite.toml"), tmp_path)
    recipe = resolve_recipe(tmp_path / "child.toml", files=False).recipe
    heldout = split(load_problems(recipe.data, tmp_path), 4).heldout
    assert [one.problem for one in found.problems] == heldout[:3] and found.reward.format == 0.5
    files = {path.name for path in suite_files(tmp_path / "suite.toml")}
    assert files >= {"suite.toml", "child.toml", "parent.toml", "data.jsonl", "zero.toml", "base.toml"}


GPQA = SuiteConfig.model_validate({**load_suite(CONFIGS / "gpqa-diamond.toml").model_dump(),
                                   "source": {"kind": "files", "paths": ["gpqa.csv"]}})


def write_gpqa(folder: Path) -> None:
    with (folder / "gpqa.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["Record ID", "Question", "Correct Answer", "Incorrect Answer 1", "Incorrect Answer 2",
                         "Incorrect Answer 3", "High-level domain"])
        for number in range(40):
            writer.writerow([f"rec{number}", f"Which, of\nthese {number}?", "right", " w1", "w2 ", "w3", "Physics"])


def test_gpqas_options_are_shuffled_by_seed_and_problem_and_the_letter_follows(tmp_path: Path):
    write_gpqa(tmp_path)
    found = {seed: load_suite_problems(GPQA, tmp_path, seed).problems for seed in (0, 1)}
    for problems in found.values():
        assert [one.key for one in problems] == [f"rec{number}" for number in range(40)]
        for one in problems:
            assert f"\n{one.problem.answer}. right\n" in one.problem.question + "\n"
            assert "Which, of\nthese" in one.problem.question and one.problem.metadata["letters"] == 4
        letters = [one.problem.answer for one in problems]
        assert all(3 <= letters.count(letter) <= 20 for letter in "ABCD")  # 10 each, give or take
    assert [one.problem.answer for one in found[0]] != [one.problem.answer for one in found[1]]
    again = load_suite_problems(GPQA, tmp_path, 0).problems
    assert again == found[0]
    plain = GPQA.model_copy(update={"shuffle": False})
    assert {one.problem.answer for one in load_suite_problems(plain, tmp_path, 5).problems} == {"A"}


@pytest.mark.parametrize(("answer_is", "answer"), [("index", 2), ("letter", "C"), ("text", "deer")])
def test_options_in_a_list_name_the_right_one_in_three_ways(tmp_path: Path, answer_is: str, answer: Any):
    config = suite("choice", shuffle=False, fields={"options": "choices", "answer_is": answer_is})
    (one,) = load(tmp_path, [{"question": "q", "choices": ["ant", "bee", "deer"], "answer": answer}], config).problems
    assert one.problem.answer == "C" and "C. deer" in one.problem.question


def test_equal_wrong_options_may_be_but_the_right_one_is_unique(tmp_path: Path):
    config = suite("choice", fields={"options": "choices", "answer_is": "index"})
    with pytest.raises(UserError, match=r"rows.jsonl:1: the right option 'x' is there twice"):
        load(tmp_path, [{"question": "q", "choices": ["x", "y", "x"], "answer": 0}], config)


def test_squad_and_drop_have_several_answers_in_nested_fields(tmp_path: Path):
    config = suite("factual", fields={"context": "passage", "answer": "answers_spans.spans", "id": "query_id"})
    row = {"query_id": "q1", "passage": "A cat.", "question": "Who?",
           "answers_spans": {"spans": ["cat", "a cat", "cat"]}}
    (one,) = load(tmp_path, [row], config).problems
    assert one.problem.metadata["accepted"] == ["cat", "a cat"] and one.key == "q1"
    assert one.problem.question.startswith("A cat.\n\nWho?\n")
    listed = suite("factual", fields={"answer": "answers.text"})
    (one,) = load(tmp_path, [{"question": "Who?", "answers": [{"text": "x"}, {"text": "y"}]}], listed).problems
    assert one.problem.metadata["accepted"] == ["x", "y"]


def test_ifevals_null_arguments_are_left_out_and_unknown_constraints_said_or_counted(tmp_path: Path):
    rows = [{"prompt": "a", "instruction_id_list": ["punctuation:no_comma"], "kwargs": [{"num_words": None}]},
            {"prompt": "b", "instruction_id_list": ["language:response_language"], "kwargs": [{"language": "kn"}]}]
    fields = {"question": "prompt"}
    with pytest.raises(UserError, match=r"rows.jsonl:2: constraint 'language:response_language' cannot be checked"):
        load(tmp_path, rows, suite("instruction", fields=fields))
    found = load(tmp_path, rows, suite("instruction", fields=fields, unsupported="drop"))
    assert found.dropped == 1 and len(found.problems) == 1
    assert found.problems[0].problem.metadata["constraints"] == [("punctuation:no_comma", {})]


class Bomb:
    """What a hostile row could pickle."""

    def __reduce__(self):
        return (Path("exploded").touch, ())


def packed(value: Any) -> str:
    return base64.b64encode(zlib.compress(pickle.dumps(value))).decode()


def test_livecodebenchs_packed_tests_are_read_and_nothing_is_unpickled(tmp_path: Path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    config = suite("code", fields={"question": "question_content", "starter": "starter_code", "metadata": "metadata",
                                   "test_cases": ["public_test_cases", "private_test_cases"]})
    public = json.dumps([{"input": "[1]\n2\n", "output": "[3]\n", "testtype": "functional"}])
    private = packed(json.dumps([{"input": "[3]\n\"a\"", "output": "4", "testtype": "functional"}]))
    row = {"question_content": "Add one.", "starter_code": "class Solution:\n    def f(x):",
           "metadata": '{"func_name": "f"}', "public_test_cases": public, "private_test_cases": private}
    typed = {"public_test_cases": json.dumps([{"input": "1\n", "output": "2\n", "testtype": "stdin"}]),
             "private_test_cases": packed("[]"), "metadata": "{}", "starter_code": ""}
    one, other = load(tmp_path, [row, row | typed], config).problems
    assert one.problem.metadata["tests"] == [{"arguments": [[1], 2], "output": [3]},
                                            {"arguments": [[3], "a"], "output": 4}]
    assert one.problem.metadata["function"] == "Solution.f" and "    def f(x):" in one.problem.question
    assert other.problem.metadata["tests"] == [{"input": "1\n", "output": "2\n"}]
    assert "function" not in other.problem.metadata
    for wrong, said in (({"public_test_cases": typed["public_test_cases"]}, "tests by standard input"),
                        ({"metadata": "{}"}, "tells no name"),
                        ({"public_test_cases": public.replace("[3]", "[3")}, "is no JSON")):
        with pytest.raises(UserError, match=said):
            load(tmp_path, [row | wrong], config)
    with pytest.raises(UserError, match=r"rows.jsonl:1: field 'private_test_cases': neither JSON nor packed JSON"):
        load(tmp_path, [row | {"private_test_cases": packed(Bomb())}], config)
    assert not Path("exploded").exists()


def test_humanevals_tests_are_a_program(tmp_path: Path):
    fields = load_suite(CONFIGS / "humaneval.toml").fields
    row = {"task_id": "HumanEval/0", "prompt": "def f():\n    '''x'''\n", "entry_point": "f",
           "test": "def check(candidate): ..."}
    (one,) = load(tmp_path, [row], suite("code", fields=fields.model_dump())).problems
    assert (one.key, one.problem.metadata["function"]) == ("HumanEval/0", "f")
    assert one.problem.metadata["test_program"] == "def check(candidate): ..."
    assert one.problem.metadata["preamble"] == row["prompt"]
    for name in ("test", "prompt"):
        with pytest.raises(UserError, match="is no Python"):
            load(tmp_path, [row | {name: "def f(:"}], suite("code", fields=fields.model_dump()))


@pytest.mark.parametrize("ending", [".jsonl", ".json", ".csv", ".parquet", ".jsonl.gz"])
def test_every_format_gives_the_same_problems(tmp_path: Path, ending: str):
    rows = [{"question": "What is 2 + 2, in all?", "answer": "4"}, {"question": "Größe?", "answer": "x^2"}]
    lines = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    path = tmp_path / f"rows{ending}"
    match ending:
        case ".jsonl":
            path.write_text(lines)
        case ".json":
            path.write_text(json.dumps(rows, indent=1))
        case ".csv":
            with path.open("w", newline="") as file:
                writer = csv.DictWriter(file, ["question", "answer"])
                writer.writeheader()
                writer.writerows(rows)
        case ".jsonl.gz":
            path.write_bytes(gzip.compress(lines.encode()))
        case ".parquet":
            import pyarrow
            import pyarrow.parquet
            pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), path)
    found = load_suite_problems(suite("maths", path.name), tmp_path).problems
    assert [one.problem.answer for one in found] == ["4", "x^2"]
    assert found[0].problem.question.startswith("What is 2 + 2, in all?\n") and found[0].problem.scorer == "math"


def test_a_dataset_folder_is_read_with_its_split(tmp_path: Path):
    folder = tmp_path / "set"
    folder.mkdir()
    (folder / "test.jsonl").write_text(json.dumps({"problem": "1+1", "answer": 2, "id": 60}) + "\n")
    config = SuiteConfig(title="T", kind="maths", source={"kind": "huggingface", "path": "set", "split": "test"},
                         fields={"question": "problem", "id": "id"})
    (one,) = load_suite_problems(config, tmp_path).problems
    assert (one.key, one.problem.answer) == ("60", "2")
    wrong = config.model_copy(update={"source": config.source.model_copy(update={"split": "dev"})})
    with pytest.raises(UserError, match="split='dev'"):
        load_suite_problems(wrong, tmp_path)


def test_rows_with_one_key_are_told_apart_and_a_limit_cuts(tmp_path: Path):
    rows = [{"question": "same", "answer": "1"}] * 3
    keys = [one.key for one in load(tmp_path, rows, suite("maths")).problems]
    assert keys[1:] == [f"{keys[0]}#2", f"{keys[0]}#3"]
    assert len(load(tmp_path, rows, suite("maths", limit=2)).problems) == 2


@pytest.mark.parametrize(("row", "said"), [
    ({"question": "q"}, "rows.jsonl:1: no field 'answer'"), ({"question": "", "answer": "1"}, "is empty"),
    ({"question": "q", "answer": None}, "is NoneType"), ({"question": ["q"], "answer": "1"}, "is list"),
])
def test_a_bad_row_is_named(tmp_path: Path, row: dict, said: str):
    with pytest.raises(UserError, match=said):
        load(tmp_path, [row], suite("maths"))


@pytest.mark.parametrize(("text", "said"), [
    ("title = 3", "title=3"), ("title = 't'\nkind = 'maths'", "source: is missing"),
    ("title = 't'\nkind = 'choice'\n[source]\nkind = 'files'\npaths = ['x']", "needs either options"),
    ("title = 't'\nkind = 'maths'\nsampels = 4\n[source]\nkind = 'files'\npaths = ['x']", "sampels: unknown key"),
    ("title = 't'\nkind = 'maths'\n[source]\npath = 'x'", 'needs kind = "files"'), ("title", "not TOML"),
    ("title = 't'\nkind = 'maths'\n[source]\nkind = 'recipe'\npath = 'x'", "belong together"),
    ("title = 't'\nkind = 'recipe'\nprompt = 'x'\n[source]\nkind = 'recipe'\npath = 'x'", "prompt: "),
    ("title = 't'\nkind = 'recipe'\n[source]\nkind = 'recipe'\npaht = 'x'", "source.path: is missing"),
])
def test_a_bad_suite_is_explained_in_one_line(tmp_path: Path, text: str, said: str):
    (tmp_path / "s.toml").write_text(text)
    with pytest.raises(UserError) as error:
        load_suite(tmp_path / "s.toml")
    assert said in str(error.value) and str(tmp_path / "s.toml") in str(error.value)
    assert len(str(error.value).splitlines()) == 1


@pytest.mark.parametrize("prompt", ["no question", "{{ question", "{{ question }} {{ other }}"])
def test_a_prompt_that_cannot_be_is_refused(tmp_path: Path, prompt: str):
    with pytest.raises(UserError, match="prompt: "):
        load(tmp_path, [{"question": "q", "answer": "1"}], suite("maths", prompt=prompt))

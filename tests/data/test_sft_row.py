"""Rows of samples: what is read, and what is refused by file and line."""

import json
from pathlib import Path

import pytest

from r1mega.config import UserError
from r1mega.config.sft import SampleFields, SampleFiles, SftConfig
from r1mega.data.sft_load import load_demonstrations
from r1mega.data.sft_row import Demonstration

GOOD = {"prompt": "1+1=", "response": "2"}


def read(folder: Path, *rows: object, **more: object) -> list[Demonstration]:
    lines = [row if isinstance(row, str) else json.dumps(row) for row in rows]
    (folder / "s.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    source = SampleFiles(name="maths", paths=["s.jsonl"], **more)
    return [sample for _, sample in load_demonstrations(SftConfig(sources=[source]), folder)]


def test_prompt_and_response_messages_and_a_prompt_of_messages_say_the_same(tmp_path: Path):
    user, assistant = {"role": "user", "content": "1+1="}, {"role": "assistant", "content": "2"}
    samples = read(tmp_path, GOOD, {"messages": [user, assistant]}, {"prompt": [user], "response": "2"})
    assert [sample.turns for sample in samples] == [(("1+1=", "2"),)] * 3
    assert len({sample.id for sample in samples}) == 1  # a hash of the contents
    assert samples[1].origin.endswith("s.jsonl:2") and samples[1].source == "maths"


def test_a_conversation_has_a_system_message_and_several_turns(tmp_path: Path):
    said = [("system", "Be brief."), ("user", "a?"), ("assistant", "A"), ("user", "b?"), ("assistant", "B")]
    (sample,) = read(tmp_path, {"messages": [{"role": role, "content": text} for role, text in said]})
    assert sample.system == "Be brief." and sample.turns == (("a?", "A"), ("b?", "B"))


def test_ids_and_sources_of_rows_are_kept(tmp_path: Path):
    samples = read(tmp_path, {**GOOD, "id": 7, "source": "r1 zero/é"}, {**GOOD, "id": "x"})
    assert [(sample.id, sample.source) for sample in samples] == [("7", "r1-zero--"), ("x", "maths")]
    samples = read(tmp_path, {**GOOD, "source": "other"}, fields=SampleFields(source=""))
    assert samples[0].source == "maths"


def test_other_columns_and_a_limit(tmp_path: Path):
    rows = [{"problem": str(number), "solution": "s"} for number in range(5)]
    samples = read(tmp_path, *rows, fields=SampleFields(prompt="problem", response="solution"), limit=3)
    assert [sample.turns[0][0] for sample in samples] == ["0", "1", "2"]


@pytest.mark.parametrize(("row", "words"), [
    ("{", "s.jsonl:2: column"), ("[1]", "expected an object"), ('"text"', "expected an object"),
    ({"prompt": "a"}, "'response' is missing"), ({"promt": "a", "response": "b"}, "did you mean"),
    ({**GOOD, "response": ""}, "'response' is empty"), ({**GOOD, "response": None}, "'response' is null"),
    ({**GOOD, "response": 5}, "is 5; it must be text"), ({**GOOD, "prompt": []}, "an empty list"),
    ({**GOOD, "prompt": "\ud800"}, "lone surrogate"), ({**GOOD, "id": 1.5}, "an id is text"),
    ({"messages": "hi"}, "must be a list"), ({"messages": ["hi"]}, "messages[0] is no"),
    ({"messages": [{"role": "bot", "content": "x"}]}, "role='bot'; legal: system, user, assistant"),
    ({"messages": [{"role": "user", "content": "x"}]}, "the assistant has the last word"),
    ({"messages": [{"role": "assistant", "content": "x"}]}, "take turns"),
    ({"messages": [{"role": "system", "content": "x"}]}, "take turns"),
])
def test_malformed_rows_are_named_by_file_and_line(tmp_path: Path, row: object, words: str):
    with pytest.raises(UserError) as caught:
        read(tmp_path, GOOD, row)
    assert "s.jsonl:2" in str(caught.value) and words in str(caught.value)
    assert "\n" not in str(caught.value)


def test_an_id_given_twice_names_both_rows(tmp_path: Path):
    with pytest.raises(UserError, match=r"s\.jsonl:3: id='x' is that of .*s\.jsonl:1 too"):
        read(tmp_path, {**GOOD, "id": "x"}, GOOD, {**GOOD, "id": "x"})


def test_parquet_and_datasets_folders_give_the_same_samples(tmp_path: Path):
    import pyarrow
    import pyarrow.parquet

    from r1mega.config.sft import SampleSet

    (tmp_path / "set").mkdir()
    table = pyarrow.table({"prompt": ["a", "b"], "response": ["A", "B"], "id": [None, "named"]})
    pyarrow.parquet.write_table(table, tmp_path / "set/rows.parquet")
    files = SampleFiles(name="n", paths=["set/rows.parquet"])
    found = [sample for _, sample in load_demonstrations(SftConfig(sources=[files]), tmp_path)]
    folder = SampleSet(name="n", path="set")
    same = [sample for _, sample in load_demonstrations(SftConfig(sources=[folder]), tmp_path)]
    assert [(sample.id, sample.turns) for sample in found] == [(sample.id, sample.turns) for sample in same]
    assert found[1].id == "named" and found[1].turns == (("b", "B"),)
    assert same[1].origin == "set[train] row 2"

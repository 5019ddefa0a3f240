"""Problems from every kind of source, and the split into training and held-out ones."""

import datetime
import fractions
import json
import random
from pathlib import Path

import pyarrow
import pyarrow.parquet
import pytest

from r1mega.config.data import DataConfig, Fields, FilesSource, ReasoningGymSource
from r1mega.data import load_problems, split
from r1mega.data.entry_codec import decode_value, encode_value
from r1mega.record import Problem


def test_files_give_problems_in_order_with_numbers_as_text(tmp_path):
    lines = [
        '\ufeff{"problem": "1+1?", "result": 2, "extra": []}',
        "",
        '{"problem": "half of one?", "result": 0.5}',
    ]
    (tmp_path / "sums.jsonl").write_text("\n".join(lines), encoding="utf-8")
    pyarrow.parquet.write_table(
        pyarrow.table({"problem": ["3?"], "result": ["3"]}), tmp_path / "more.parquet"
    )
    source = FilesSource(
        paths=["sums.jsonl", "more.parquet"],
        fields=Fields(question="problem", answer="result"),
        scorer="exact",
    )
    problems = load_problems(DataConfig(sources=[source]), tmp_path)
    assert [(p.task, p.question, p.answer, p.scorer) for p in problems] == [
        ("sums", "1+1?", "2", "exact"),
        ("sums", "half of one?", "0.5", "exact"),
        ("more", "3?", "3", "exact"),
    ]
    assert [p.metadata["origin"].rpartition("/")[2] for p in problems] == [
        "sums.jsonl:1", "sums.jsonl:3", "more.parquet: row 1"]


def test_a_reasoning_gym_source_gives_the_librarys_own_problems_as_json():
    import reasoning_gym

    options = {"min_terms": 3, "max_terms": 3, "min_digits": 1, "max_digits": 1}
    source = ReasoningGymSource(task="chain_sum", options=options, size=20, seed=7)
    problems = load_problems(DataConfig(sources=[source]), Path())
    theirs = reasoning_gym.create_dataset("chain_sum", size=20, seed=7, **options)
    assert [(p.question, p.answer) for p in problems] == [(e["question"], e["answer"]) for e in theirs]
    for problem, entry in zip(problems, theirs, strict=True):
        metadata = json.loads(json.dumps(problem.metadata))
        assert decode_value(metadata["entry"]) == entry["metadata"]
        assert metadata["options"] == options


def test_an_option_that_is_an_enum_is_given_by_its_name():
    source = ReasoningGymSource(task="word_sorting", options={"transformation": "uppercase"}, size=3)
    words = [p.answer for p in load_problems(DataConfig(sources=[source]), Path())]
    assert words == [answer.upper() for answer in words]


@pytest.mark.parametrize(
    "value",
    [
        (1, (2.5, "a")),
        {"a": (1,), "b": [None, True]},
        {1: "x", (2, 3): ["y"]},
        {"a", "b"},
        {"%tuple": [1]},
        {"%set": 1, "b": 2},
        fractions.Fraction(1, 3),
        datetime.date(2024, 2, 29),
        datetime.datetime(2024, 2, 29, 1, 2, 3),
        datetime.time(23, 59, 59, 7),
        "\ud800\x00",
        [[]],
        {},
    ],
    ids=lambda value: f"{type(value).__name__}-{len(str(value))}",  # not its repr: workers order a set differently
)
def test_values_survive_the_way_through_json_with_their_types(value):
    back = decode_value(json.loads(json.dumps(encode_value(value))))
    assert back == value and type(back) is type(value)


def problems_of(numbers) -> list[Problem]:
    return [Problem("sum", f"{n}+{n}?", str(2 * n)) for n in numbers]


def test_the_heldout_problems_depend_on_the_contents_alone():
    problems = problems_of(range(200))
    shuffled = problems + problems[:50]
    random.Random(3).shuffle(shuffled)
    one, other = split(problems, 40), split(shuffled, 40)
    assert [p.id for p in one.heldout] == [p.id for p in other.heldout]
    assert {p.id for p in one.train} == {p.id for p in other.train}
    assert (one.duplicates, other.duplicates) == (0, 50)


def test_train_and_heldout_are_disjoint_and_lose_nothing():
    problems = problems_of(range(100))
    train, heldout = split(problems, 30)
    assert len(heldout) == 30 and len(train) == 70
    assert {p.id for p in train} | {p.id for p in heldout} == {p.id for p in problems}


def test_more_problems_only_replace_heldout_ones_that_rank_lower():
    """Of 100 problems 10 are held out; those still held out after 100 more arrive were so before, never
    trained on."""
    before = split(problems_of(range(100)), 10)
    after = split(problems_of(range(200)), 10)
    old = {p.id for p in problems_of(range(100))}
    assert {p.id for p in after.heldout} & old <= {p.id for p in before.heldout}


def test_a_question_with_two_answers_or_in_two_tasks_is_one_problem():
    """Otherwise the held-out set could hold a question that training sees under another name."""
    twins = [
        Problem("a", "what is  1+1?", "2"),
        Problem("b", "what is 1+1?\n", "2"),
        Problem("a", "what is 1+1?", "two"),
    ]
    for order in (twins, twins[::-1]):
        result = split([*order, *problems_of(range(5))], 2)
        assert result.duplicates == 2
        kept = {p.id for p in [*result.train, *result.heldout]} & {p.id for p in twins}
        assert kept == {min(p.id for p in twins)}

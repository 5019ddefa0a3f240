"""The stage from recipe to dataset, with a real model: what it keeps, that it is the same whatever the layout and
wherever it is killed, and who can read it."""

import json
import shutil
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from r1mega.config import UserError, load_recipe
from r1mega.config.data import ChatTemplate
from r1mega.config.sft import SampleFiles, SampleSet, SftConfig
from r1mega.data.sft_load import load_demonstrations
from r1mega.record.metric import read_jsonl
from r1mega.report import write_report
from r1mega.reward.format import extract_answer, is_well_formed
from r1mega.rollout import sample_seed
from r1mega.stage.run import run_recipe
from tests.ranks import RankError, run_ranks
from tests.stage.rejection_runs import make_model, question, run_to, write_recipe

TEMPLATE = ChatTemplate(prompt="{{ question }}")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("rejection")
    make_model(folder)
    return folder


def go(recipe: Path, *overrides: str) -> Path:
    return run_recipe(load_recipe(recipe, overrides), recipe)


@pytest.fixture(scope="module")
def run(folder: Path) -> Path:
    return go(write_recipe(folder))


def rows_of(run: Path) -> list[dict[str, Any]]:
    import pyarrow.parquet
    return pyarrow.parquet.read_table(run / "dataset/train.parquet").to_pylist()


def report_of(run: Path) -> dict[str, Any]:
    return json.loads((run / "report.json").read_text())


def problems(run: Path, name: str) -> dict[str, str]:
    """Question to answer."""
    rows = map(json.loads, (run / "data" / name).read_text().splitlines())
    return {row["question"]: row["answer"] for row in rows}


def test_every_row_is_right_and_well_formed_and_says_where_it_is_from(run: Path):
    rows, train, heldout = rows_of(run), problems(run, "train.jsonl"), problems(run, "heldout.jsonl")
    assert rows and len(heldout) == 4 and len(train) == 12
    for row in rows:
        assert row["prompt"] in train and row["prompt"] not in heldout
        assert extract_answer(row["response"], TEMPLATE) == train[row["prompt"]]
        assert is_well_formed(row["response"], TEMPLATE) and "1+1=3" not in row["response"]
        origin = row["provenance"]
        assert origin["seed"] == sample_seed(0, 0, origin["problem"], origin["sample"])
        assert row["id"] == f"{origin['problem']}-{origin['seed']:016x}" and origin["tokens"] == 1
        assert origin["filters"] == ["form", "reasoning", "correct", "repetition", "clutter", "equations"]
        assert origin["model"] == report_of(run)["model"] and origin["rewritten_by"] is None
    assert max(Counter(row["prompt"] for row in rows).values()) == 2


def test_every_sample_is_kept_or_dropped_for_one_reason(run: Path):
    report, waves = report_of(run), read_jsonl(run / "metrics.jsonl")
    assert report["samples"] == 12 * 24 == report["kept"] + sum(report["dropped"].values())
    assert {"malformed", "no_reasoning", "wrong", "wrong_equation", "duplicate"} <= report["dropped"].keys()
    assert report["kept"] == report["dataset"]["rows"] == len(rows_of(run))
    assert report["by_task"]["problems"]["samples"] == report["samples"] and report["by_language"] == {}
    assert [wave["step"] for wave in waves] == [1, 2, 3] and {wave["stage"] for wave in waves} == {"rejection_sampling"}
    assert sum(wave["kept"] for wave in waves) == report["kept"]
    for reason, count in report["dropped"].items():
        assert sum(wave.get(f"dropped_{reason}", 0) for wave in waves) == count
    assert sum(wave["samples"] * wave["pass_rate"] for wave in waves) / 288 == pytest.approx(report["pass_rate"])
    page = write_report([run], run / "page.html").read_text()
    assert "a dataset by rejection sampling" in page and "share of a wave" in page


def write_parquet(rows: list[dict[str, Any]], path: Path) -> None:
    import pyarrow
    import pyarrow.parquet
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), path)


def test_the_folder_is_a_hugging_face_dataset_and_what_stage_sft_reads(run: Path, tmp_path: Path):
    import datasets

    datasets.disable_progress_bars()
    dataset, rows = datasets.load_dataset(str(run / "dataset"), split="train"), rows_of(run)
    assert dataset.to_list() == rows
    other = tmp_path / "dataset"
    shutil.copytree(run / "dataset", other)
    write_parquet(rows[:1], other / "train.parquet")
    assert datasets.load_dataset(str(other), split="train").to_list() == rows[:1]  # and not the first one's, cached
    for source in (SampleFiles(name="made", paths=[str(run / "dataset/train.parquet")]),
                   SampleSet(name="made", path=str(run / "dataset"))):
        read = [sample for _, sample in load_demonstrations(SftConfig(sources=[source]), run)]
        assert [(one.id, one.turns, one.source) for one in read] == [
            (row["id"], ((row["prompt"], row["response"]),), "rollouts") for row in rows]


def test_a_run_that_is_done_is_left_alone_and_another_recipe_or_other_data_are_refused(run: Path, folder: Path):
    before = {path: path.stat().st_mtime_ns for path in (run / "dataset/train.parquet", run / "report.json")}
    recipe = write_recipe(folder)
    go(recipe, "rollout.slots=4", "optimizer.lr=1.0")
    assert {path: path.stat().st_mtime_ns for path in before} == before
    with pytest.raises(UserError, match=r"was started with rejection\.samples=24, now it is 3"):
        go(recipe, "rejection.samples=3")
    text = (folder / "problems.jsonl").read_text()
    (folder / "problems.jsonl").write_text(text + json.dumps({"question": "another", "answer": "one"}) + "\n")
    with pytest.raises(UserError, match="the dataset was made with another data"):
        go(recipe)
    (folder / "problems.jsonl").write_text(text)
    go(recipe)


def on_rank(recipe: str, layout: list[str], name: str) -> None:
    go(Path(recipe), *layout, f"name={name}")


@pytest.mark.parametrize("layout", [
    {"data_parallel": 2, "expert_parallel": 2}, {"tensor_parallel": 2}, {"pipeline_parallel": 2},
], ids=["data", "tensors", "stages"])
def test_two_ranks_make_the_same_bytes_as_one(run: Path, folder: Path, layout: dict[str, int]):
    name = "-".join(layout)
    run_ranks(on_rank, 2, str(write_recipe(folder)), [f"layout.{key}={value}" for key, value in layout.items()], name)
    two = folder / "runs" / name
    assert (two / "dataset/train.parquet").read_bytes() == (run / "dataset/train.parquet").read_bytes()
    one, other = ({**report_of(path), "name": ""} for path in (run, two))
    assert one == other


def test_a_run_killed_anywhere_goes_on_and_ends_with_the_same_bytes_and_no_sample_twice(run: Path, folder: Path):
    """Killed in sampling, in selecting, in the middle of a write, between a wave and its line, and around the dataset's
    appearance: one run, whose every start gets further."""
    recipe = write_recipe(folder, "killed")
    for point in ("sample:2", "select:1", "record:2", "record:1", "metrics:1", "parquet:1", "rename:1", "cleanup:1"):
        name, _, count = point.partition(":")
        with pytest.raises(RankError, match="exit status -9"):
            run_ranks(run_to, 1, str(recipe), name, int(count))
    run_ranks(run_to, 1, str(recipe), "none", 0)
    killed = folder / "runs/killed"
    assert (killed / "dataset/train.parquet").read_bytes() == (run / "dataset/train.parquet").read_bytes()
    assert {**report_of(killed), "name": ""} == {**report_of(run), "name": ""}
    assert not list(killed.glob("rejection.*")) and not list(killed.glob(".dataset*"))
    times = ("wall_s", "rollout_s", "reward_s")
    lines = [[{key: value for key, value in line.items() if key not in times} for line in read_jsonl(path)]
             for path in (killed / "metrics.jsonl", run / "metrics.jsonl")]
    assert lines[0] == lines[1]
    ledger = [json.loads(line) for line in recipe.with_suffix(".ledger").read_text().splitlines()]
    finished: Counter[str] = Counter()
    for what, problems in ledger:
        if what == "sampled":  # whatever is on disk is not sampled again
            assert not finished.keys() & set(problems)
        else:
            finished.update(problems)
    assert len(finished) >= 8 and set(finished.values()) == {1}
    lines = [json.loads(line)[1] for line in recipe.with_suffix(".ledger").read_text().splitlines()]
    assert len({problem for problems in lines for problem in problems}) == 12


def test_users_files_join_and_nothing_that_evaluations_ask_is_sampled_or_taken(run: Path, folder: Path):
    heldout = next(iter(problems(run, "heldout.jsonl")))
    asked = next(iter(problems(run, "train.jsonl")))
    solution = "take the first and then the second and after that all the others until none is left"
    rows = [{"prompt": "Who?", "response": "Me.", "id": "mine-1", "source": "by hand"},
            {"messages": [{"role": "system", "content": "Be kind."}, {"role": "user", "content": "a"},
                          {"role": "assistant", "content": "b"}], "id": "mine-2"},
            {"prompt": f" {heldout.upper()}", "response": "held out"},
            {"prompt": "how", "response": f"Well, {solution}!"}]
    (folder / "mine.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (folder / "exam.jsonl").write_text(json.dumps({"question": asked, "solution": solution}) + "\n")
    lines = "decontaminate = ['exam.jsonl']\nfiles = [{kind = 'files', name = 'user', paths = ['mine.jsonl']}]"
    found = go(write_recipe(folder, "files", {"rejection": lines}))
    report = report_of(found)
    assert report["contaminated_problems"] == 1 and report["problems"] == 11
    assert report["files"] == {"by-hand": 1, "user": 1} and report["files_dropped"] == {"contaminated": 2}
    assert report["evaluation_texts"] == {"held-out problems": 8, "exam.jsonl": 2}
    sampled, mine = rows_of(found)[:-2], rows_of(found)[-2:]
    assert asked not in {row["prompt"] for row in sampled}
    assert [row["id"] for row in mine] == ["mine-1", "mine-2"] and mine[0]["provenance"]["file"] == "mine.jsonl:1"
    source = SampleFiles(name="made", paths=[str(found / "dataset/train.parquet")])
    read = [sample for _, sample in load_demonstrations(SftConfig(sources=[source]), found)]
    assert read[-1].system == "Be kind." and read[-1].turns == (("a", "b"),)
    expected = [row for row in rows_of(run) if row["prompt"] != asked]
    assert sampled == expected  # leaving a problem out changes nothing of the others


def test_the_cold_start_is_the_stage_with_a_rewriter(run: Path, folder: Path):
    found = go(write_recipe(folder, "cold", {"rejection": 'rewrite = "rules"'}))
    rows = rows_of(found)
    assert [row["id"] for row in rows] == [row["id"] for row in rows_of(run)]
    assert all(row["provenance"]["rewritten_by"] == "rules" for row in rows)
    for row in rows:
        assert is_well_formed(row["response"], TEMPLATE, "summary") and "The result is <answer>" in row["response"]


def test_so_many_problems_are_chosen_by_the_seed(run: Path, folder: Path):
    chosen = {}
    for seed in (0, 1):
        found = go(write_recipe(folder, "few", {"rejection": "problems = 5"}), f"seed={seed}")
        chosen[seed] = json.loads((found / "data/rejection/plan.json").read_text())["problems"]
        assert report_of(found)["problems"] == 5 and report_of(found)["samples"] == 5 * 24
    assert chosen[0] != chosen[1]
    order = [row["provenance"]["problem"] for row in rows_of(run)]
    assert set(chosen[0]) & set(order)


def test_general_prompts_of_a_mix_are_not_sampled(run: Path, folder: Path):
    recipe = write_recipe(folder, "mixed", extra='[[data.sources]]\nkind = "general"\nsize = 3\n')
    recipe.write_text(recipe.read_text().replace("heldout_problems = 4", "heldout_problems = 0"))
    found = go(recipe)
    assert report_of(found)["problems"] == 16 and report_of(found)["contaminated_problems"] == 0
    with pytest.raises(UserError, match="all sources are of general prompts"):
        go(recipe, "name=alone", "data.sources=[{kind='general', size=3}]")


def test_a_model_is_needed_and_one_that_fits(folder: Path):
    recipe = write_recipe(folder, "other")
    with pytest.raises(UserError, match=r"other\.toml: start: is missing"):
        go(recipe, "start.model=none")
    with pytest.raises(UserError, match=r"num_layers=2 but the recipe says model\.num_layers=3"):
        go(recipe, "model.num_layers=3")
    assert question(3) == "how many of 3 ?"

"""Stages and their addresses."""

import shutil
from pathlib import Path

import pytest

from r1mega.config import UserError
from r1mega.config.pipeline import is_pipeline
from r1mega.pipeline import Choice, Stage, load_stages, status
from r1mega.pipeline.run import chosen_stages
from tests.e2e.recipes import write_base_recipe, write_rl_recipe

PIPELINE = """
name = "small"
runs_dir = "{runs}"

[stages.again]
recipe = "run.toml"
start = "zero"
set = ["optimizer.lr=2e-3"]

[stages.base]
recipe = "base.toml"

[stages.zero]
recipe = "run.toml"
start = "base"
"""


@pytest.fixture
def pipeline(tmp_path: Path) -> Path:
    write_base_recipe(tmp_path)
    write_rl_recipe(tmp_path, "run", steps=1)
    path = tmp_path / "pipeline.toml"
    path.write_text(PIPELINE.format(runs=tmp_path / "runs"))
    return path


def addresses(path: Path, *overrides: str) -> dict[str, str]:
    return {stage.name: stage.address for stage in load_stages(path, overrides)}


def changed(path: Path, *overrides: str) -> set[str]:
    before, after = addresses(path), addresses(path, *overrides)
    return {name for name in before if before[name] != after[name]}


def test_stages_come_after_what_they_start_from(pipeline: Path):
    stages = load_stages(pipeline)
    assert [stage.name for stage in stages] == ["base", "zero", "again"]
    assert stages[2].recipe.optimizer.lr == 2e-3 and stages[1].recipe.optimizer.lr == 1e-3
    assert len({stage.run_dir for stage in stages}) == 3
    assert is_pipeline(pipeline) and not is_pipeline(pipeline.parent / "run.toml")


def test_a_changed_key_changes_the_stages_that_depend_on_it_and_no_other(pipeline: Path):
    assert changed(pipeline, "zero.optimizer.lr=3e-3") == {"zero", "again"}
    assert changed(pipeline, "again.rollout.temperature=0.9") == {"again"}
    assert changed(pipeline, "base.train.steps=3") == {"base", "zero", "again"}
    assert changed(pipeline, "train.steps=3") == {"base", "zero", "again"}
    assert changed(pipeline, "zero.layout.expert_parallel=1", "train.micro_batch_tokens=128") == set()


def test_the_contents_of_files_and_the_code_are_part_of_an_address(pipeline: Path, monkeypatch: pytest.MonkeyPatch):
    folder = pipeline.parent
    (folder / "p.jsonl").write_text("".join(f'{{"question": "{n}?", "answer": "{n}"}}\n' for n in range(30)))
    shutil.copy(folder / "run.toml", folder / "generated.toml")
    text = (folder / "run.toml").read_text()
    begin, end = text.index("[[data.sources]]"), text.index("[rollout]")
    files = '[[data.sources]]\nkind = "files"\npaths = ["p.jsonl"]\nscorer = "exact"\n\n'
    (folder / "run.toml").write_text(text[:begin] + files + text[end:])
    before = addresses(pipeline)
    (folder / "p.jsonl").write_text((folder / "p.jsonl").read_text() + '{"question": "x?", "answer": "y"}\n')
    after = addresses(pipeline)
    assert {name for name in before if before[name] != after[name]} == {"zero", "again"}
    monkeypatch.setattr("r1mega.pipeline.graph.code_version", lambda: "other")
    assert all(address != after[name] for name, address in addresses(pipeline).items())
    pipeline.write_text('code = "mine"' + pipeline.read_text())
    pinned = addresses(pipeline)
    monkeypatch.undo()
    assert addresses(pipeline) == pinned


@pytest.mark.parametrize(("old", "new", "said"), [
    ('start = "base"', 'start = "bse"', r'stages.zero.start="bse": no such stage; stages are again, base, zero'),
    ('recipe = "base.toml"', 'recipe = "base.toml"\nstart = "again"', "goes in a circle"),
    ('start = "base"', 'begin = "base"', "stages.zero.begin: extra inputs are not permitted; keys there are recipe"),
    ('recipe = "base.toml"', 'recipe = "bose.toml"', "bose.toml: no such file"),
    ('name = "small"', 'name = "a/b"', "name: string should match"),
    ("lr=2e-3", "lrr=2e-3", "lrr"),
    ("[stages.base]", "[stages.base", "cannot be read as TOML"),
])
def test_mistakes_are_one_line_that_names_the_key(pipeline: Path, old: str, new: str, said: str):
    pipeline.write_text(pipeline.read_text().replace(old, new))
    with pytest.raises(UserError) as caught:
        load_stages(pipeline)
    assert said in str(caught.value) and str(caught.value).count("\n") <= 1


def test_a_recipe_with_a_start_of_its_own_is_to_be_a_stage(pipeline: Path):
    write_rl_recipe(pipeline.parent, "run", start='recipe = "base.toml"')
    pipeline.write_text(pipeline.read_text().replace('recipe = "base.toml"', 'recipe = "run.toml"'))
    with pytest.raises(UserError, match="start.recipe is set; in a pipeline.*set stages.base.start"):
        load_stages(pipeline)


DATA = """
[stages.data]
recipe = "data.toml"
start = "zero"
[stages.tuned]
recipe = "sft.toml"
start = "base"
inputs = { "sft.sources.0.paths" = "data" }
[stages.evaluate]
recipe = "evaluate.toml"
each = ["base", "tuned"]
"""
RECIPES = {
    "data": 'extends = "run.toml"\nunset = ["start"]\nstage = "rejection_sampling"\n[rejection]\nsamples = 2\n',
    "sft": 'extends = "run.toml"\nunset = ["start", "train.steps"]\nstage = "sft"\n[[sft.sources]]\nkind = "files"\n'
           'name = "made"\npaths = ["made-elsewhere.jsonl"]\n',
    "evaluate": 'extends = "run.toml"\nunset = ["start"]\nstage = "evaluate"\n[evaluation.suites]\n'
                'paths = ["suite.toml"]\n',
    "suite": 'title = "Sums"\nkind = "maths"\n[source]\nkind = "files"\npaths = ["sums.jsonl"]\n',
}


@pytest.fixture
def with_data(pipeline: Path) -> Path:
    """A stage that makes data, one that trains on them, and an evaluation of two models."""
    for name, text in RECIPES.items():
        (pipeline.parent / f"{name}.toml").write_text(text)
    (pipeline.parent / "sums.jsonl").write_text('{"question": "1 + 1 =", "answer": "2"}\n')
    pipeline.write_text(pipeline.read_text() + DATA)
    return pipeline


def test_a_stage_reads_the_data_of_another_and_each_model_has_its_evaluation(with_data: Path):
    stages = {stage.name: stage for stage in load_stages(with_data)}
    assert list(stages) == ["base", "zero", "again", "data", "tuned", "evaluate.base", "evaluate.tuned"]
    assert stages["tuned"].inputs == {"start.model": "base", "sft.sources.0.paths": "data"}
    assert changed(with_data, "data.rejection.samples=3") == {"data", "tuned", "evaluate.tuned"}
    assert changed(with_data, "zero.optimizer.lr=3e-3") == {"zero", "again", "data", "tuned", "evaluate.tuned"}
    assert changed(with_data, "evaluate.evaluation.suites.samples=2") == {"evaluate.base", "evaluate.tuned"}
    waits = {entry.stage.name: entry.why for entry in status(load_stages(with_data))}
    assert waits["tuned"] == "for base, data" and waits["evaluate.tuned"] == "for tuned"


def test_the_contents_of_a_suite_are_part_of_an_evaluations_address(with_data: Path):
    before = addresses(with_data)
    (with_data.parent / "sums.jsonl").write_text('{"question": "1 + 2 =", "answer": "3"}\n')
    after = addresses(with_data)
    assert {name for name in before if before[name] != after[name]} == {"evaluate.base", "evaluate.tuned"}


def test_a_pipeline_elsewhere_has_the_same_addresses(with_data: Path, tmp_path: Path):
    moved = shutil.copytree(with_data.parent, tmp_path / "moved", ignore=shutil.ignore_patterns("moved"))
    assert addresses(moved / "pipeline.toml") == addresses(with_data)


def test_the_command_line_overrides_the_pipelines_own_keys(with_data: Path):
    assert changed(with_data, "seed=1") == set(addresses(with_data))
    assert changed(with_data, "name=other", "runs_dir=elsewhere") == set()
    stages = load_stages(with_data, ["seed=1", "name=other", "runs_dir=elsewhere"])
    assert all(stage.run_dir.parent == Path("elsewhere/other-seed1") for stage in stages)


@pytest.mark.parametrize(("old", "new", "said"), [
    ('"sft.sources.0.paths" = "data"', '"sft.sources.0.paths" = "zero"', "kind rl leaves a model, and the key "),
    ('"sft.sources.0.paths" = "data"', '"reward.model" = "data"', "the recipe has no such key"),
    ('"sft.sources.0.paths" = "data"', '"sft.sources.0.paths" = "dat"', '="dat": no such stage'),
    ('start = "base"\ninputs', 'start = "data"\ninputs', "kind rejection_sampling leaves a data set, and the key names "
                                                          "a model"),
    ('each = ["base", "tuned"]', 'each = ["base", "tunned"]', 'stages.evaluate.each="tunned": no such stage'),
    ('each = ["base", "tuned"]', 'each = ["base"]\nstart = "base"', "each is set too"),
    ("[stages.data]", '[[claims]]\nsay = "x"\nstage = "two"\n[stages.data]', 'claims.0.stage="two": no such stage'),
])
def test_a_wrong_input_is_said_in_one_line(with_data: Path, old: str, new: str, said: str):
    text = with_data.read_text()
    assert old in text
    with_data.write_text(text.replace(old, new))
    with pytest.raises(UserError) as caught:
        load_stages(with_data)
    assert said in str(caught.value) and str(caught.value).count("\n") <= 1


def names(stages: list[Stage]) -> list[str]:
    return [stage.name for stage in stages]


def test_stages_are_chosen_by_name(pipeline: Path):
    stages = load_stages(pipeline)
    assert names(chosen_stages(stages, Choice())) == ["base", "zero", "again"]
    assert names(chosen_stages(stages, Choice(first="zero"))) == ["zero", "again"]
    assert names(chosen_stages(stages, Choice(until="zero"))) == ["base", "zero"]
    assert names(chosen_stages(stages, Choice(only="again"))) == ["again"]
    with pytest.raises(UserError, match="--until zer: no such stage; stages are base, zero, again"):
        chosen_stages(stages, Choice(until="zer"))


def test_before_anything_ran_all_stages_wait(pipeline: Path):
    assert [(entry.stage.name, entry.state, entry.why) for entry in status(load_stages(pipeline))] == [
        ("base", "waiting", ""), ("zero", "waiting", "for base"), ("again", "waiting", "for zero")]

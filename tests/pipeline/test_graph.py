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

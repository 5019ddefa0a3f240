"""Files over parents, overrides over files; where each value came from; and back to TOML."""

from pathlib import Path
from typing import get_args

import pytest

from r1mega.config import LayoutConfig, Recipe, UserError, dump_recipe, load_recipe, resolve_recipe
from r1mega.config.keys import all_keys, field_at
from tests.config.malformed import VALID

CONFIGS = Path(__file__).parents[2] / "configs"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "tiny.toml").write_text((CONFIGS / "models/tiny.toml").read_text())
    (tmp_path / "base.toml").write_text(VALID)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_a_child_sets_what_differs_and_keeps_the_rest(folder: Path) -> None:
    (folder / "child.toml").write_text('extends = "base.toml"\nseed = 3\n[train]\nsteps = 99\n')
    child, base = load_recipe(folder / "child.toml"), load_recipe(folder / "base.toml")
    assert (child.seed, child.train.steps) == (3, 99)
    assert child.train.micro_batch_tokens == base.train.micro_batch_tokens == 512
    assert child.model == base.model


def test_a_child_does_not_inherit_the_name_of_its_parents_run(folder: Path) -> None:
    (folder / "base.toml").write_text('name = "mine"\n' + VALID)
    (folder / "child.toml").write_text('extends = "base.toml"\n')
    assert load_recipe("base.toml").name == "mine"
    assert load_recipe("child.toml").name == "child"


def test_a_list_of_sources_is_replaced_not_joined(folder: Path) -> None:
    (folder / "child.toml").write_text(
        'extends = "base.toml"\n[[data.sources]]\nkind = "reasoning_gym"\ntask = "basic_arithmetic"\nsize = 50\n')
    assert [source.task for source in load_recipe("child.toml").data.sources] == ["basic_arithmetic"]


def test_a_section_with_its_own_parent_takes_nothing_from_the_recipes_parent(folder: Path) -> None:
    (folder / "pair.toml").write_text("tensor_parallel = 2\n")
    (folder / "child.toml").write_text('extends = "base.toml"\n[layout]\nextends = "pair.toml"\n')
    assert load_recipe("child.toml").layout == LayoutConfig(tensor_parallel=2)


def test_unset_leaves_out_what_parents_set(folder: Path) -> None:
    (folder / "child.toml").write_text('extends = "base.toml"\nunset = ["model.yarn", "seed"]\n')
    child = load_recipe("child.toml")
    assert child.model.yarn is None
    assert child.seed == 0  # the default; base.toml says 7


def test_a_sections_extends_on_the_command_line_replaces_the_section(folder: Path) -> None:
    (folder / "pair.toml").write_text("pipeline_parallel = 2\n")
    recipe = load_recipe("base.toml", ["layout.extends=pair.toml", "layout.virtual_stages=2"])
    assert recipe.layout == LayoutConfig(pipeline_parallel=2, virtual_stages=2)


@pytest.mark.parametrize(("override", "key", "value"), [
    ("optimizer.lr=3e-6", ("optimizer", "lr"), 3e-6),
    ("optimizer.lr=1", ("optimizer", "lr"), 1.0),  # a whole number where a number is wanted
    ("train.steps=1_000", ("train", "steps"), 1000),
    ("train.mtp=off", ("train", "mtp"), "off"),
    ('train.mtp="off"', ("train", "mtp"), "off"),
    ("evaluation.at_end=false", ("evaluation", "at_end"), False),
    ("log.wandb_project=my project", ("log", "wandb_project"), "my project"),
    ("model.yarn=none", ("model", "yarn"), None),
    ("train.steps=5", ("train", "steps"), 5),
])
def test_override_values(override: str, key: tuple[str, str], value: object, folder: Path) -> None:
    section, name = key
    got = getattr(getattr(load_recipe("base.toml", [override]), section), name)
    assert got == value and type(got) is type(value)


def test_overrides_reach_into_lists_and_the_last_one_wins(folder: Path) -> None:
    recipe = load_recipe("base.toml", ["data.sources.0.size=100", "data.sources.0.options={min_terms=2}",
                                       "data.sources.0.options.max_terms=3", "data.sources.0.size=200"])
    assert recipe.data.sources[0].size == 200
    assert recipe.data.sources[0].options == {"min_terms": 2, "max_terms": 3}


def test_every_value_knows_its_file_and_line_or_override(folder: Path) -> None:
    (folder / "child.toml").write_text('extends = "base.toml"\n\n[train]\nsteps = 99\n')
    resolved = resolve_recipe("child.toml", ["train.precision=bf16"])
    line_of = {text: number for number, text in enumerate(VALID.splitlines(), 1)}
    assert str(resolved.origin(("train", "steps"))) == "child.toml:4"
    assert str(resolved.origin(("train", "precision"))) == "command line"
    assert str(resolved.origin(("train", "micro_batch_tokens"))) == f"base.toml:{line_of['micro_batch_tokens = 512']}"
    assert str(resolved.origin(("train", "max_bad_steps"))) == "default"
    assert str(resolved.origin(("model", "hidden_size"))) == "tiny.toml:3"
    assert str(resolved.origin(("data", "sources", 0, "size"))) == f"base.toml:{line_of['size = 64']}"


def test_a_dumped_recipe_reads_back_equal_from_anywhere(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    (folder / "problems.jsonl").write_text('{"question": "1+1?", "answer": "2"}\n')
    (folder / "base.toml").write_text(VALID + '[[data.sources]]\nkind = "files"\npaths = ["problems.jsonl"]\n')
    recipe = load_recipe("base.toml", [
        r'tokenizer.template.prompt="Say \"{{ question }}\"\n\tnow\\ é 数 \u007f"', "optimizer.eps=1e-30",
        'data.sources.0.options={deep={"odd key" = [1, 2.5, "x"]}, empty={}, list=[{a=1}, {b=2}]}'])
    elsewhere = tmp_path_factory.mktemp("run") / "recipe.toml"
    elsewhere.write_text(dump_recipe(recipe))
    assert load_recipe(elsewhere) == recipe
    assert recipe.data.sources[1].paths == [str(folder / "problems.jsonl")]


def test_with_origins_it_is_still_the_same_recipe(folder: Path) -> None:
    resolved = resolve_recipe("base.toml", ["train.steps=3"])
    (folder / "shown.toml").write_text('name = "base"\n' + dump_recipe(resolved).partition("\n")[2])
    assert load_recipe("shown.toml") == resolved.recipe


def test_paths_are_relative_to_the_file_that_sets_them(folder: Path) -> None:
    (folder / "deep").mkdir()
    (folder / "deep/data.jsonl").write_text("{}\n")
    source = '[[data.sources]]\nkind = "files"\npaths = ["data.jsonl"]\n'
    (folder / "deep/child.toml").write_text('extends = "../base.toml"\n' + source)
    (folder / "leaf.toml").write_text('extends = "deep/child.toml"\n')
    assert load_recipe("leaf.toml").data.sources[0].paths == [str(folder / "deep/data.jsonl")]
    (folder / "other.jsonl").write_text("{}\n")
    moved = load_recipe("deep/child.toml", ['data.sources.0.paths=["other.jsonl"]'])
    assert moved.data.sources[0].paths == [str(folder / "other.jsonl")]


def test_a_hub_name_stays_a_name_unless_something_lies_there(folder: Path) -> None:
    overrides = ["tokenizer.kind=huggingface", "tokenizer.path=org/name"]
    assert load_recipe("base.toml", overrides).tokenizer.path == "org/name"
    (folder / "org/name").mkdir(parents=True)
    assert load_recipe("base.toml", overrides).tokenizer.path == str(folder / "org/name")


def test_a_recipe_cannot_be_changed(folder: Path) -> None:
    with pytest.raises(ValueError, match="frozen"):
        load_recipe("base.toml").train.steps = 3


def test_what_may_be_absent_is_absent_by_default() -> None:
    """TOML has no null: a key that is None in a recipe is left out of the dump, so its default must be None."""
    for key in all_keys():
        info = field_at(tuple(int(part) if part.isdecimal() else part for part in key), {})
        if info is not None and type(None) in get_args(info.annotation):
            assert info.default is None, key


def test_mistakes_of_a_start_recipe_are_said_by_name(folder: Path) -> None:
    (folder / "start.toml").write_text(VALID.replace("steps = 10", "steps = 0"))
    with pytest.raises(UserError, match=r"start\.recipe.*train\.steps=0"):
        load_recipe("base.toml", ["start.recipe=start.toml"])


def test_recipes_are_what_they_say() -> None:
    tiny = resolve_recipe(CONFIGS / "tiny/zero.toml").recipe
    assert isinstance(tiny, Recipe)
    assert (tiny.name, tiny.stage, tiny.layout.world_size, tiny.layout.expert_parallel) == ("tiny-zero", "rl", 2, 2)


def test_a_tilde_is_the_users_home(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(folder / "home"))
    recipe = resolve_recipe("base.toml", ["start.model=~/models/m"], files=False).recipe
    assert recipe.start.model == str(folder / "home/models/m")


def test_every_ending_of_json_lines_is_accepted(folder: Path) -> None:
    for ending in ("jsonl", "ndjson", "json", "parquet"):
        (folder / f"p.{ending}").write_text("{}")
        source = f'[[data.sources]]\nkind = "files"\npaths = ["p.{ending}"]\n'
        (folder / "child.toml").write_text('extends = "base.toml"\n' + source)
        assert load_recipe("child.toml").data.sources[0].paths == [str(folder / f"p.{ending}")]

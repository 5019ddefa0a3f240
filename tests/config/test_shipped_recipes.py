"""Every file in configs/ is valid, used, and what its comments say."""

from pathlib import Path

import pytest

from r1mega.config import UserError, resolve_recipe
from r1mega.config.pipeline import is_pipeline
from r1mega.config.schema import recipe_schema

CONFIGS = Path(__file__).parents[2] / "configs"
RECIPES = sorted(path for path in CONFIGS.glob("*/*.toml")
                 if path.parent.name not in ("models", "layouts", "suites") and not is_pipeline(path))
STUDENTS = {  # file -> (its model, the paper's learning rate)
    "qwen-1.5b": ("qwen2.5-math-1.5b", 1e-4), "qwen-7b": ("qwen2.5-math-7b", 8e-5), "qwen-14b": ("qwen2.5-14b", 7e-5),
    "qwen-32b": ("qwen2.5-32b", 6e-5), "llama-8b": ("llama-3.1-8b", 5e-5), "llama-70b": ("llama-3.3-70b", 2e-5)}


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: f"{path.parent.name}/{path.name}")
def test_recipe_is_valid(path: Path) -> None:
    recipe = resolve_recipe(path, files=False).recipe
    assert recipe.name == f"{path.parent.name}-{path.stem}"
    if recipe.start.model is None:
        assert resolve_recipe(path).recipe == recipe


@pytest.mark.parametrize("path", sorted(CONFIGS.glob("models/*.toml")), ids=lambda path: path.stem)
def test_model_is_valid(path: Path) -> None:
    overrides = [f"model.extends={path}", "tokenizer.vocab_size=256", "start.recipe=none",
                 f"layout.extends={CONFIGS}/layouts/cpu-1.toml"]
    assert resolve_recipe(CONFIGS / "tiny/zero.toml", overrides).recipe.model.num_layers > 0


@pytest.mark.parametrize("path", sorted(CONFIGS.glob("layouts/*.toml")), ids=lambda path: path.stem)
def test_layout_holds_the_model_it_is_for_on_as_many_ranks_as_its_name_says(path: Path) -> None:
    recipe = "tiny" if path.stem.startswith("cpu") else "full"
    layout = resolve_recipe(CONFIGS / f"{recipe}/zero.toml", [f"layout.extends={path}"], files=False).recipe.layout
    if path.stem.startswith("h100"):
        assert layout.world_size == int(path.stem.partition("-")[2])


def test_the_readme_lists_every_recipe_and_layout() -> None:
    readme = (CONFIGS / "README.md").read_text()
    for path in RECIPES:
        assert f"`{path.parent.name}/{path.name}`" in readme
    for path in CONFIGS.glob("full/students/*.toml"):
        assert f"`full/students/{path.name}`" in readme
    for path in CONFIGS.glob("layouts/*.toml"):
        assert f"`{path.stem}`" in readme


def test_the_editors_schema_is_current() -> None:
    assert (CONFIGS / "recipe.schema.json").read_text() == recipe_schema(), \
        "run: r1mega show --schema > configs/recipe.schema.json"


def test_the_full_recipe_has_the_papers_numbers() -> None:
    """arXiv 2501.12948v2: 32 questions x 16 outputs a step, rollouts of 8,192 outputs in 16 mini-batches, lr 3e-6,
    KL 0.001, temperature 1, reference replaced every 400 steps, 10,400 steps. A step of ours is one rollout."""
    recipe = resolve_recipe(CONFIGS / "full/zero.toml", files=False).recipe
    rollout, algorithm = recipe.rollout, recipe.algorithm
    outputs = rollout.problems_per_step * rollout.group_size
    assert (outputs, rollout.group_size, algorithm.mini_batches) == (8192, 16, 16)
    assert outputs // algorithm.mini_batches == 32 * 16
    assert recipe.train.steps * algorithm.mini_batches == 10_400
    assert algorithm.reference_interval * algorithm.mini_batches == 400
    assert (recipe.optimizer.lr, algorithm.kl_coef, rollout.temperature) == (3e-6, 0.001, 1.0)
    assert rollout.max_new_tokens == 32_768


def test_the_full_recipes_of_later_rl_have_the_papers_numbers() -> None:
    """arXiv 2501.12948v2: clip 10 and a language reward of weight 1 from the first RL stage on; in the second
    temperature 0.7 and 1,700 steps, preference rewards only in the last 400. The rest is R1-Zero's."""
    zero, first, second = (resolve_recipe(CONFIGS / f"full/{name}.toml", files=False).recipe
                           for name in ("zero", "reasoning_rl", "all_scenario"))
    for recipe in (first, second):
        assert (recipe.algorithm.clip_high, recipe.reward.language, recipe.reward.form) == (10.0, 1.0, "summary")
        assert recipe.optimizer == zero.optimizer and recipe.algorithm.kl_coef == 0.001
        assert recipe.rollout.model_copy(update={"temperature": 1.0}) == zero.rollout
    assert (first.rollout.temperature, second.rollout.temperature) == (1.0, 0.7)
    preference = second.reward.preference
    last = second.train.steps - preference.from_step + 1
    assert (second.train.steps, last) == (1700 // 16, 400 // 16)
    assert preference.weights == {"helpfulness": 1.0, "safety": 1.0} and first.reward.preference is None


def test_the_full_recipes_of_reward_models_have_the_papers_numbers() -> None:
    """arXiv 2501.12948v2, supplement: batches of 256, learning rate 6e-6, one epoch, at most 8,192 tokens."""
    for name, kind in (("helpfulness", "pairwise"), ("safety", "pointwise")):
        recipe = resolve_recipe(CONFIGS / f"full/reward_{name}.toml", files=False).recipe
        preference = recipe.preference
        assert (preference.kind, preference.epochs, preference.samples_per_step) == (kind, 1, 256)
        assert (recipe.optimizer.lr, preference.max_tokens) == (6e-6, 8192)


@pytest.mark.parametrize("name", ["cold_start", "sft"])
def test_the_full_supervised_recipes_have_the_papers_numbers(name: str) -> None:
    """arXiv 2501.12948v2, supplement: 2-3 epochs, cosine from 5e-5 to 5e-6, context 32,768, batches of 128; 600k
    reasoning and 200k other samples."""
    recipe = resolve_recipe(CONFIGS / f"full/{name}.toml", files=False).recipe
    assert recipe.stage == "sft" and recipe.sft.epochs in (2, 3) and recipe.sft.samples_per_step == 128
    assert (recipe.optimizer.schedule, recipe.optimizer.lr, recipe.optimizer.min_lr) == ("cosine", 5e-5, 5e-6)
    assert recipe.sft.max_tokens == 32_768 <= recipe.model.max_context
    assert recipe.start.model.endswith("models/deepseek-v3-base") and recipe.train.steps is None
    weights = [source.weight for source in recipe.sft.sources]
    assert weights == ([3.0, 1.0] if name == "sft" else [None])


@pytest.mark.parametrize("name", ["cold_start_data", "rejection_sampling"])
def test_the_full_recipes_that_make_data_have_the_papers_numbers(name: str) -> None:
    """arXiv 2501.12948v2, supplement: R1-Zero is sampled at temperature 1; 10-grams of evaluation problems are kept
    out; DeepSeek-V3 rewrites the one and judges the other, from which mixed languages, long paragraphs and code are
    left out."""
    recipe = resolve_recipe(CONFIGS / f"full/{name}.toml", files=False).recipe
    config = recipe.rejection
    assert recipe.stage == "rejection_sampling" and recipe.rollout.temperature == 1.0
    assert recipe.rollout.max_new_tokens == 32_768 and config.decontaminate_ngram == 10 and config.samples > 1
    assert config.filters.correct and config.filters.form and recipe.reward.language == 0.0
    if name == "cold_start_data":
        assert config.rewrite == "model" and config.rewriter.model == "deepseek-ai/DeepSeek-V3"
        assert recipe.reward.form == "answer"
    else:
        assert config.rewrite == "none" and config.judge.model == "deepseek-ai/DeepSeek-V3"
        assert recipe.reward.form == "summary" and config.filters.max_paragraph_words
        assert config.filters.max_clutter < 1 and config.filters.min_language > 0
    read = resolve_recipe(CONFIGS / f"full/{'cold_start' if name == 'cold_start_data' else 'sft'}.toml", files=False)
    assert any(f"full-{name}/dataset/train.parquet" in path for path in read.recipe.sft.sources[0].paths)


def test_there_is_a_recipe_for_each_of_the_six_students() -> None:
    assert {path.stem for path in CONFIGS.glob("full/students/*.toml")} == set(STUDENTS)


@pytest.mark.parametrize("name", STUDENTS)
def test_the_students_recipes_have_the_papers_numbers(name: str) -> None:
    """arXiv 2501.12948v2, supplement: 2-3 epochs, a cosine to a tenth of each student's own learning rate, context
    32,768, batches of 64, on the same samples as R1."""
    recipe = resolve_recipe(CONFIGS / f"full/students/{name}.toml", files=False).recipe
    model, lr = STUDENTS[name]
    assert recipe.stage == "sft" and recipe.sft.epochs in (2, 3) and recipe.sft.samples_per_step == 64
    assert (recipe.optimizer.schedule, recipe.optimizer.lr) == ("cosine", lr)
    assert recipe.optimizer.min_lr == pytest.approx(lr / 10)
    assert recipe.sft.max_tokens == 32_768 <= recipe.model.max_context
    assert [source.weight for source in recipe.sft.sources] == [3.0, 1.0] and recipe.train.steps is None
    assert recipe.start.model == str(CONFIGS.parent / "models" / model)
    overrides = [f"layout.extends={CONFIGS}/layouts/cpu-1.toml", f"model.extends={CONFIGS}/models/{model}.toml",
                 "start.recipe=none"]
    published = resolve_recipe(CONFIGS / "tiny/zero.toml", overrides).recipe.model
    assert recipe.model == published.model_copy(update={"max_context": recipe.model.max_context})
    with pytest.raises(UserError, match=r"has no experts to spread; use 1"):
        resolve_recipe(CONFIGS / f"full/students/{name}.toml", ["layout.expert_parallel=2"], files=False)

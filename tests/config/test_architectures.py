"""What a model has by its architecture: keys, defaults, what is written down, and what a recipe can do with it."""

import tomllib
from pathlib import Path

import pytest

from r1mega.config import ModelConfig, UserError, dump_recipe, load_recipe, resolve_recipe

CONFIGS = Path(__file__).parents[2] / "configs"
TINY = {name: tomllib.loads((CONFIGS / f"models/{name}.toml").read_text()) for name in
        ("tiny", "tiny_qwen2", "tiny_llama")}
DENSE_KEYS = {"num_key_value_heads", "head_dim", "tied_embeddings", "llama3_rope"}
ONE_RANK = f"layout.extends={CONFIGS}/layouts/cpu-1.toml"


@pytest.mark.parametrize("name", TINY)
def test_a_model_is_written_with_its_own_keys_and_reads_back_equal(name: str) -> None:
    model = ModelConfig.model_validate(TINY[name])
    written = model.model_dump(mode="json")
    assert ModelConfig.model_validate(written) == model == ModelConfig.model_validate_json(model.model_dump_json())
    assert set(written) & DENSE_KEYS == (DENSE_KEYS if model.is_dense else set())
    assert ("num_experts" in written) == ("yarn" in written) == ("num_mtp_layers" in written) == (not model.is_dense)


def test_what_a_dense_model_lacks_counts_as_none() -> None:
    qwen2, llama, v3 = (ModelConfig.model_validate(TINY[name]) for name in ("tiny_qwen2", "tiny_llama", "tiny"))
    assert (qwen2.num_mtp_layers, qwen2.num_moe_layers, qwen2.qkv_bias, llama.qkv_bias) == (0, 0, True, False)
    assert qwen2.cached_per_token == 2 * 2 * 32 and v3.cached_per_token == 32 + 16
    assert (v3.num_moe_layers, v3.num_mtp_layers) == (3, 1)


def test_a_recipe_of_a_dense_model_resolves_and_reads_back_equal(tmp_path: Path) -> None:
    resolved = resolve_recipe(CONFIGS / "tiny/zero.toml", [
        f"model.extends={CONFIGS}/models/tiny_llama.toml", "start.recipe=none", ONE_RANK])
    (tmp_path / "recipe.toml").write_text(dump_recipe(resolved))
    assert load_recipe(tmp_path / "recipe.toml") == resolved.recipe


def test_a_student_does_not_start_from_a_recipe_of_another_architecture() -> None:
    with pytest.raises(UserError, match="model.architecture.*trains a model with another architecture=deepseek_v3"):
        load_recipe(CONFIGS / "tiny/zero.toml", [f"model.extends={CONFIGS}/models/tiny_qwen2.toml", ONE_RANK])


def test_a_reward_model_with_tied_embeddings_is_not_cut_into_stages() -> None:
    overrides = [f"model.extends={CONFIGS}/models/tiny_qwen2.toml", "start.recipe=none", ONE_RANK]
    assert load_recipe(CONFIGS / "tiny/reward_safety.toml", overrides).model.tied_embeddings
    with pytest.raises(UserError, match="layout.pipeline_parallel.*a reward model does not train; use 1"):
        load_recipe(CONFIGS / "tiny/reward_safety.toml", [*overrides, "layout.pipeline_parallel=2"])

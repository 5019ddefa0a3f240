"""config.json both ways: what transformers and DeepSeek write, and what is refused."""

import json
from pathlib import Path
from typing import Any

import pytest

from r1mega.config import ModelConfig, UserError
from r1mega.config.model import Yarn
from r1mega.model.hf.config import hf_config, read_hf_config
from tests.model.test_counts import SMALL, V3

PUBLISHED: dict[str, Any] = {  # the fields of deepseek-ai/DeepSeek-V3's config.json that describe the model
    "architectures": ["DeepseekV3ForCausalLM"], "attention_bias": False, "attention_dropout": 0.0, "bos_token_id": 0,
    "ep_size": 1, "eos_token_id": 1, "first_k_dense_replace": 3, "hidden_act": "silu", "hidden_size": 7168,
    "initializer_range": 0.02, "intermediate_size": 18432, "kv_lora_rank": 512, "max_position_embeddings": 163840,
    "model_type": "deepseek_v3", "moe_intermediate_size": 2048, "moe_layer_freq": 1, "n_group": 8,
    "n_routed_experts": 256, "n_shared_experts": 1, "norm_topk_prob": True, "num_attention_heads": 128,
    "num_experts_per_tok": 8, "num_hidden_layers": 61, "num_key_value_heads": 128, "num_nextn_predict_layers": 1,
    "q_lora_rank": 1536, "qk_nope_head_dim": 128, "qk_rope_head_dim": 64, "rms_norm_eps": 1e-06,
    "rope_scaling": {"beta_fast": 32, "beta_slow": 1, "factor": 40, "mscale": 1.0, "mscale_all_dim": 1.0,
                     "original_max_position_embeddings": 4096, "type": "yarn"},
    "rope_theta": 10000, "routed_scaling_factor": 2.5, "scoring_func": "sigmoid", "tie_word_embeddings": False,
    "topk_group": 4, "topk_method": "noaux_tc", "torch_dtype": "bfloat16", "use_cache": True, "v_head_dim": 128,
    "vocab_size": 129280,
}


def write(folder: Path, fields: dict[str, Any]) -> Path:
    (folder / "config.json").write_text(json.dumps(fields))
    return folder


def test_the_published_config_is_deepseek_v3(tmp_path):
    source = read_hf_config(write(tmp_path, PUBLISHED))
    assert source.model == V3.model_copy(update={"yarn": Yarn(), "init_std": 0.02})
    assert source.rope_interleave


def test_rope_parameters_of_transformers_5_mean_the_same_as_rope_scaling(tmp_path):
    scaling = dict(PUBLISHED["rope_scaling"])
    rope = {"rope_type": scaling.pop("type"), "rope_theta": 50_000.0} | scaling
    fields = {name: value for name, value in PUBLISHED.items() if name not in ("rope_scaling", "rope_theta")}
    model = read_hf_config(write(tmp_path, fields | {"rope_parameters": rope})).model
    assert (model.yarn, model.rope_theta) == (Yarn(), 50_000.0)


@pytest.mark.parametrize("model", [V3, SMALL.model_copy(update={"num_mtp_layers": 0, "init_std": 0.1}),
                                   V3.model_copy(update={"yarn": Yarn(mscale=0.707)}),
                                   V3.model_copy(update={"yarn": Yarn(factor=4.0, mscale_all_dim=0.0)})])
def test_what_is_written_reads_back(tmp_path, model: ModelConfig):
    assert read_hf_config(write(tmp_path, hf_config(model, "bfloat16"))).model == model


@pytest.mark.parametrize(("change", "words"), [
    ({"norm_eps": 1e-5}, "norm_eps=1e-05; only 1e-06"),
    ({"yarn": Yarn(mscale=0.707, mscale_all_dim=0.0)}, "yarn.mscale=0.707 with yarn.mscale_all_dim=0.0"),
    ({"yarn": Yarn(mscale=0.0, mscale_all_dim=1.0)}, "yarn.mscale=0.0 with yarn.mscale_all_dim=1.0"),
    ({"yarn": Yarn(mscale=0.0, mscale_all_dim=0.0)}, "yarn.mscale=0.0 with yarn.mscale_all_dim=0.0"),
])
def test_a_model_that_no_config_json_means_is_not_written_as_another(change: dict[str, Any], words: str):
    with pytest.raises(UserError, match=words):
        hf_config(V3.model_copy(update=change), "bfloat16")


def test_written_fields_agree_with_the_published_ones(tmp_path):
    fields = hf_config(V3.model_copy(update={"yarn": Yarn(), "init_std": 0.02}), "bfloat16")
    extra = {name: value for name, value in fields.items() if name not in PUBLISHED}
    assert extra == {"rope_interleave": True}  # transformers' name for what the published code does
    assert fields.items() <= (PUBLISHED | extra).items()


@pytest.mark.parametrize(("change", "words"), [
    ({"norm_topk_prob": False}, ["norm_topk_prob=False", "True", "normalises"]),
    ({"scoring_func": "softmax"}, ["scoring_func='softmax'", "sigmoid"]),
    ({"hidden_act": "gelu"}, ["hidden_act='gelu'", "silu"]),
    ({"tie_word_embeddings": True}, ["tie_word_embeddings=True"]),
    ({"attention_bias": True}, ["attention_bias=True"]),
    ({"rms_norm_eps": 1e-5}, ["rms_norm_eps=1e-05", "1e-06"]),
    ({"num_key_value_heads": 8}, ["num_key_value_heads=8", "128"]),
    ({"model_type": "deepseek_v2"}, ["model_type='deepseek_v2'"]),
    ({"q_lora_rank": None}, ["q_lora_rank is null"]),
    ({"num_nextn_predict_layers": 2}, ["num_nextn_predict_layers=2"]),
    ({"hidden_size": "7168"}, ["hidden_size='7168'", "integer"]),
    ({"n_group": 7}, ["n_group=7", "does not divide n_routed_experts=256"]),
    ({"rope_scaling": {"type": "linear", "factor": 2}}, ["'linear'", "yarn"]),
    ({"rope_scaling": {"type": "yarn", "original_max_position_embeddings": 4096}}, ["factor is missing"]),
    ({"rope_scaling": PUBLISHED["rope_scaling"] | {"mscale": None}}, ["mscale", "both or neither"]),
    ({"rope_scaling": PUBLISHED["rope_scaling"] | {"attention_factor": 1.5}}, ["attention_factor=1.5"]),
    ({"rope_scaling": PUBLISHED["rope_scaling"] | {"factor": 0.5}}, ["factor=0.5"]),
    ({"rope_scaling": "yarn"}, ["rope_scaling='yarn'"]),
])
def test_what_we_cannot_compute_is_refused_with_file_key_and_value(tmp_path, change, words):
    with pytest.raises(UserError) as error:
        read_hf_config(write(tmp_path, PUBLISHED | change))
    assert str(error.value).startswith(str(tmp_path / "config.json"))
    assert all(word in str(error.value) for word in words), error.value
    assert "\n" not in str(error.value)


def test_a_missing_or_broken_file_is_named(tmp_path):
    with pytest.raises(UserError, match="config.json: no such file"):
        read_hf_config(tmp_path)
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(UserError, match="not readable as JSON"):
        read_hf_config(tmp_path)
    fields = {name: value for name, value in PUBLISHED.items() if name != "kv_lora_rank"}
    with pytest.raises(UserError, match="kv_lora_rank is missing"):
        read_hf_config(write(tmp_path, fields))

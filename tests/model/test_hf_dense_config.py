"""config.json of Qwen2 and Llama: what is carried over, and what is refused with its reason."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from r1mega.config import ModelConfig, UserError
from r1mega.model.hf import HfFolder, hf_config, read_hf_config
from r1mega.model.names import NameTable
from tests.model.dense_models import LLAMA, QWEN2

# As the files beside the weights of Qwen2.5-Math-1.5B and Llama-3.1-8B have it, but for token ids and versions
QWEN = dict(
    architectures=["Qwen2ForCausalLM"], attention_dropout=0.0, hidden_act="silu", hidden_size=1536,
    initializer_range=0.02, intermediate_size=8960, max_position_embeddings=4096, max_window_layers=21,
    model_type="qwen2", num_attention_heads=12, num_hidden_layers=28, num_key_value_heads=2, rms_norm_eps=1e-06,
    rope_theta=10000, sliding_window=4096, tie_word_embeddings=True, torch_dtype="bfloat16", use_cache=True,
    use_mrope=False, use_sliding_window=False, vocab_size=151936)
SCALING = dict(factor=8.0, high_freq_factor=4.0, low_freq_factor=1.0, original_max_position_embeddings=8192,
               rope_type="llama3")
LLAMA_8B = dict(
    architectures=["LlamaForCausalLM"], attention_bias=False, attention_dropout=0.0, hidden_act="silu",
    hidden_size=4096, initializer_range=0.02, intermediate_size=14336, max_position_embeddings=131072, mlp_bias=False,
    model_type="llama", num_attention_heads=32, num_hidden_layers=32, num_key_value_heads=8, pretraining_tp=1,
    rms_norm_eps=1e-05, rope_scaling=SCALING, rope_theta=500000.0, tie_word_embeddings=False, torch_dtype="bfloat16",
    use_cache=True, vocab_size=128256)


def read(folder: Path, fields: dict[str, Any]) -> ModelConfig:
    (folder / "config.json").write_text(json.dumps(fields))
    return read_hf_config(folder).model


def shipped(name: str) -> ModelConfig:
    import tomllib

    path = Path(__file__).parents[2] / f"configs/models/{name}.toml"
    return ModelConfig.model_validate(tomllib.loads(path.read_text()))


def test_published_files_give_the_shipped_models(tmp_path: Path):
    assert read(tmp_path, QWEN) == shipped("qwen2.5-math-1.5b")
    assert read(tmp_path, LLAMA_8B) == shipped("llama-3.1-8b")


@pytest.mark.parametrize("model", [QWEN2, LLAMA, LLAMA.model_copy(update={"llama3_rope": None})])
def test_what_is_written_reads_back(tmp_path: Path, model: ModelConfig):
    again = read(tmp_path, hf_config(model, "float32"))
    assert again.model_dump() == model.model_dump()


def test_every_head_has_keys_of_its_own_and_an_equal_share_of_the_width_where_nothing_is_said(tmp_path: Path):
    bare = {key: value for key, value in QWEN.items() if key not in ("num_key_value_heads", "rope_theta")}
    model = read(tmp_path, bare)
    assert (model.num_key_value_heads, model.head_dim, model.rope_theta) == (12, 128, 10_000.0)
    assert read(tmp_path, QWEN | {"head_dim": 64}).head_dim == 64
    assert read(tmp_path, QWEN | {"rope_parameters": {"rope_type": "default", "rope_theta": 5e5}}).rope_theta == 5e5


REFUSED = [
    (QWEN, dict(use_sliding_window=True), r"use_sliding_window=True; only False"),
    (QWEN, dict(rope_scaling=dict(type="yarn", factor=4.0)), r"rope type 'yarn'; legal: 'default', 'llama3'"),
    (QWEN, dict(hidden_act="gelu"), r"hidden_act='gelu'; only 'silu'"),
    (QWEN, dict(num_attention_heads=13), r"num_attention_heads=13; does not divide hidden_size=1536"),
    (QWEN, dict(num_key_value_heads=5), r"num_key_value_heads=5: does not divide num_attention_heads=12"),
    (QWEN, dict(intermediate_size=None), r"intermediate_size is null; a Qwen2 configuration needs it"),
    (QWEN, dict(model_type="qwen3"), r"model_type='qwen3'; only 'deepseek_v3', 'qwen2', 'llama' can be imported"),
    (LLAMA_8B, dict(attention_bias=True), r"attention_bias=True; only False"),
    (LLAMA_8B, dict(rope_scaling=SCALING | dict(factor=None)), r"factor is missing under rope_scaling"),
    (LLAMA_8B, dict(rope_scaling=SCALING | dict(high_freq_factor=1.0)), r"high_freq_factor=1.0: must be more than"),
    (LLAMA_8B, dict(rope_scaling=3), r"rope_scaling=3; must be an object or null"),
]


@pytest.mark.parametrize(("fields", "change", "message"), REFUSED)
def test_what_would_be_computed_otherwise_is_refused(tmp_path: Path, fields: dict, change: dict, message: str):
    with pytest.raises(UserError, match=message):
        read(tmp_path, fields | change)


@pytest.mark.parametrize("equal", [True, False])
def test_a_head_beside_tied_embeddings_must_be_the_embedding(tmp_path: Path, equal: bool):
    table = NameTable(QWEN2)
    tensors = {name: torch.zeros(shape) for name, shape in table.file_shapes().items()}
    assert "lm_head.weight" not in tensors and table.written_copies == {}
    tensors["lm_head.weight"] = torch.full((200, 64), 0.0 if equal else 1.0)
    save_file(tensors, tmp_path / "model.safetensors")
    folder = HfFolder(tmp_path)
    folder.check(table)
    if equal:
        folder.check_copies(table)
        return
    with pytest.raises(UserError, match="lm_head.weight differs from model.embed_tokens.weight; tie_word_embeddings"):
        folder.check_copies(table)

"""The name table against names that others gave: Megatron's checkpoints and the published index."""

import pytest

from r1mega.config import ModelConfig
from r1mega.model.names import NameTable
from tests.model.test_counts import SMALL, V3

V3_TABLE = NameTable(V3)
V3_FILES = {weight.megatron: list(weight.files) for weight in V3_TABLE.weights}


def test_every_tensor_of_the_files_belongs_to_one_weight_and_no_name_stands_for_two():
    table = NameTable(SMALL)
    names = [name for weight in table.weights for name in weight.files]
    assert len(set(names)) == len(names) == len(table.file_shapes())
    assert len({weight.megatron for weight in table.weights}) == len(table.weights)


@pytest.mark.parametrize(("megatron", "files"), [
    ("embedding.word_embeddings.weight", ["model.embed_tokens.weight"]),
    ("output_layer.weight", ["lm_head.weight"]),
    ("decoder.layers.2.mlp.linear_fc1.weight", ["model.layers.2.mlp.gate_proj.weight",
                                                 "model.layers.2.mlp.up_proj.weight"]),
    ("decoder.layers.3.mlp.router.expert_bias", ["model.layers.3.mlp.gate.e_score_correction_bias"]),
    ("decoder.layers.60.mlp.experts.local_experts.255.linear_fc2.weight",
     ["model.layers.60.mlp.experts.255.down_proj.weight"]),
    ("decoder.layers.3.mlp.shared_experts.linear_fc1.weight", ["model.layers.3.mlp.shared_experts.gate_proj.weight",
                                                                "model.layers.3.mlp.shared_experts.up_proj.weight"]),
    ("decoder.layers.0.self_attention.linear_kv_down_proj.weight",
     ["model.layers.0.self_attn.kv_a_proj_with_mqa.weight"]),
    ("mtp.layers.0.eh_proj.weight", ["model.layers.61.eh_proj.weight"]),
    ("mtp.layers.0.final_layernorm.weight", ["model.layers.61.shared_head.norm.weight"]),
    ("mtp.layers.0.mtp_model_layer.pre_mlp_layernorm.weight", ["model.layers.61.post_attention_layernorm.weight"]),
    ("mtp.layers.0.mtp_model_layer.mlp.experts.local_experts.7.linear_fc1.weight",
     ["model.layers.61.mlp.experts.7.gate_proj.weight", "model.layers.61.mlp.experts.7.up_proj.weight"]),
])
def test_names_of_the_published_weights(megatron: str, files: list[str]):
    assert V3_FILES[megatron] == files


def test_the_mtp_layer_of_the_published_files_repeats_embedding_and_head():
    assert V3_TABLE.copies == {
        "model.layers.61.embed_tokens.weight": "model.embed_tokens.weight",
        "model.layers.61.shared_head.head.weight": "lm_head.weight"}


@pytest.mark.parametrize("name", [
    "decoder.layers.61.input_layernorm.weight",  # one layer too many
    "decoder.layers.0.mlp.router.weight",  # the first layers are dense
    "decoder.layers.3.mlp.experts.local_experts.256.linear_fc1.weight",
])
def test_what_the_model_lacks_has_no_name(name: str):
    assert name not in V3_FILES


@pytest.mark.parametrize("name", [
    "model.layers.62.enorm.weight", "model.layers.61.embed_tokens.weight", "lm_head.bias"])
def test_what_the_files_lack_or_hold_twice_is_no_weight(name: str):
    assert name not in V3_TABLE.file_shapes()


def test_without_experts_or_mtp_no_such_name_exists():
    dense = ModelConfig(**(SMALL.model_dump() | {"num_dense_layers": 3, "num_mtp_layers": 0}))
    assert not any("expert" in name or "gate.weight" in name or "layers.3" in name
                   for name in NameTable(dense).file_shapes())

"""Parameter and FLOP counts: published numbers, other people's models, and sums worked by hand."""

import math
import tomllib
from pathlib import Path

import pytest

from r1mega.config import LayoutConfig, ModelConfig
from r1mega.model.counts import count_parameters, forward_flops_per_token, padding_parameters
from r1mega.model.hf.config import hf_config
from r1mega.model.names import NameTable
from tests.model.dense_models import LLAMA, QWEN2
from tests.model.hf_models import transformers_sizes
from tests.ranks import run_ranks

V3 = ModelConfig(
    vocab_size=129_280, hidden_size=7168, num_layers=61, num_dense_layers=3, ffn_hidden_size=18_432,
    num_attention_heads=128, q_lora_rank=1536, kv_lora_rank=512, qk_nope_head_dim=128, qk_rope_head_dim=64,
    v_head_dim=128, num_experts=256, moe_ffn_hidden_size=2048, num_experts_per_token=8, num_expert_groups=8,
    num_groups_per_token=4, num_mtp_layers=1, max_context=163_840)

SMALL = ModelConfig(
    vocab_size=200, hidden_size=64, num_layers=3, num_dense_layers=1, ffn_hidden_size=96, num_attention_heads=4,
    q_lora_rank=32, kv_lora_rank=24, qk_nope_head_dim=12, qk_rope_head_dim=8, v_head_dim=16, num_experts=8,
    num_shared_experts=2, moe_ffn_hidden_size=32, num_experts_per_token=2, num_expert_groups=4,
    num_groups_per_token=2, max_context=64)


def test_deepseek_v3_has_its_published_sizes():
    counts = count_parameters(V3)
    assert counts.main == 671_026_419_200  # "671B"
    assert round(counts.active / 1e9, 1) == 36.6  # README_WEIGHTS.md: 36.6B, the head included
    assert counts.active == 36_625_618_432
    assert counts.total - counts.main == 11_610_068_224  # the MTP module
    assert counts.in_files == 684_489_845_504  # with copies of embedding and head in the MTP layer: "685B"
    assert padding_parameters(V3) == 0


def test_deepseek_v3_parts_are_those_worked_by_hand():
    counts = count_parameters(V3)
    assert counts.embedding == counts.head == 129_280 * 7168
    # q_a, q_b, kv_a, kv_b, o, and the norms of the two latents
    assert counts.attention == 61 * (11_010_048 + 37_748_736 + 4_128_768 + 16_777_216 + 117_440_512 + 1536 + 512)
    assert counts.dense_ffn == 3 * 396_361_728
    assert counts.routed_experts == 58 * 256 * 44_040_192
    assert counts.shared_experts == 58 * 44_040_192
    assert counts.routers == 58 * (256 * 7168 + 256)
    assert counts.norms == 61 * 2 * 7168 + 7168


STUDENTS = {  # all, as their Hugging Face pages count the files, and billions without embedding and head
    "qwen2.5-math-1.5b": (1_543_714_304, 1.31), "qwen2.5-math-7b": (7_615_616_512, 6.53),
    "qwen2.5-14b": (14_770_033_664, 13.21), "qwen2.5-32b": (32_763_876_352, 31.21),
    "llama-3.1-8b": (8_030_261_248, 6.98), "llama-3.3-70b": (70_553_706_496, 68.45)}


def published(name: str) -> ModelConfig:
    text = (Path(__file__).parents[2] / f"configs/models/{name}.toml").read_text(encoding="utf-8")
    return ModelConfig.model_validate(tomllib.loads(text))


@pytest.mark.parametrize("name", STUDENTS)
def test_the_students_have_their_published_sizes(name: str):
    counts = count_parameters(published(name))
    total, rest = STUDENTS[name]
    assert counts.total == counts.main == counts.in_files == total
    assert round((total - counts.embedding - counts.head) / 1e9, 2) == rest
    assert counts.active == (total if name == "qwen2.5-math-1.5b" else total - counts.embedding)
    assert counts.head == (0 if name == "qwen2.5-math-1.5b" else counts.embedding)
    assert padding_parameters(published(name)) == counts.sharded_experts == 0


def test_a_qwen2_layer_has_the_parts_worked_by_hand():
    counts = count_parameters(published("qwen2.5-math-1.5b"))
    # queries, keys and values of 1536 -> 1536 + 256 + 256 with as many biases, the output without
    assert counts.attention == 28 * (1536 * 2048 + 2048 + 1536 * 1536)
    assert counts.dense_ffn == 28 * 3 * 1536 * 8960
    assert counts.embedding == 151_936 * 1536 and counts.norms == 57 * 1536


def test_transformers_builds_models_of_the_same_size():
    models = [V3, SMALL, QWEN2, LLAMA, *map(published, STUDENTS)]
    fields = [hf_config(model, "bfloat16") for model in models]
    assert run_ranks(transformers_sizes, 1, fields)[0] == [count_parameters(model).main for model in models]


def test_the_policy_holds_what_is_counted():
    models = [SMALL, QWEN2, LLAMA]
    assert run_ranks(policy_sizes, 1, models)[0] == [
        count_parameters(model).total + padding_parameters(model) for model in models]
    assert padding_parameters(SMALL) == padding_parameters(LLAMA) == 2 * 56 * 64
    assert padding_parameters(QWEN2) == 56 * 64


def policy_sizes(models: list[ModelConfig]) -> list[int]:
    from r1mega.model import build_policy
    from r1mega.parallel import start

    groups, sizes = start(LayoutConfig()), []
    for model in models:
        policy = build_policy(model, groups)[0]
        biases = [buffer for name, buffer in policy.named_buffers() if name.endswith("expert_bias")]
        sizes.append(sum(tensor.numel() for tensor in [*policy.parameters(), *biases]))
    return sizes


@pytest.mark.parametrize("model", [V3, SMALL, QWEN2, LLAMA, SMALL.model_copy(update={"num_mtp_layers": 0}),
                                   SMALL.model_copy(update={"num_dense_layers": 3})])
def test_the_name_table_lists_as_many_elements_as_are_counted(model: ModelConfig):
    table = NameTable(model)
    assert sum(math.prod(shape) for shape in table.file_shapes().values()) == count_parameters(model).total


def test_flops_of_a_model_small_enough_to_add_up():
    # 64 wide; a layer: projections 64*(32+24+8) + 32*4*20 + 24*4*28 + 64*64 = 13_440 weights
    projections = 4096 + 2560 + 2688 + 4096
    attention = 2 * projections + 2 * 4 * (20 + 16) * (9 + 1) / 2  # a token sees 5 of 9 positions on average
    dense = attention + 2 * 3 * 64 * 96
    sparse = attention + 2 * (8 * 64 + (2 + 2) * 3 * 64 * 32)
    head = 2 * 200 * 64
    assert forward_flops_per_token(SMALL, 9, mtp=False) == dense + 2 * sparse + head
    assert forward_flops_per_token(SMALL, 9) == dense + 3 * sparse + 2 * head + 2 * 2 * 64 * 64


def test_flops_of_a_student_small_enough_to_add_up():
    # 64 wide; a layer: queries, keys and values 64*(4+2+2)*12, output 48*64, FFN 3*64*96
    layer = 2 * (6144 + 3072 + 18_432) + 2 * 4 * (12 + 12) * (9 + 1) / 2
    assert forward_flops_per_token(QWEN2, 9) == 4 * layer + 2 * 200 * 64
    assert forward_flops_per_token(LLAMA, 9, mtp=False) == forward_flops_per_token(QWEN2, 9)


def test_without_attention_scores_a_forward_pass_costs_two_operations_an_active_weight():
    counts = count_parameters(V3)
    not_multiplied = counts.norms + 61 * (1536 + 512) + 58 * 256  # norms and selection biases
    scores = 61 * 128 * (192 + 128) * 2  # of one position
    assert forward_flops_per_token(V3, 1, mtp=False) == 2 * (counts.active - not_multiplied) + scores

"""Which module stands where in Megatron's GPTModel, without Transformer Engine."""

from functools import partial

from megatron.core.models.gpt.gpt_layer_specs import (
    get_gpt_decoder_block_spec,
    get_gpt_decoder_layer_specs,
    get_gpt_mtp_block_spec,
)
from megatron.core.transformer.moe.moe_layer import MoELayer
from megatron.core.transformer.spec_utils import ModuleSpec
from megatron.core.transformer.transformer_block import TransformerBlockSubmodules
from megatron.core.transformer.transformer_config import TransformerConfig

from r1mega.model.attention import CausalAttention, RMSNorm
from r1mega.model.grouped_attention import GroupedAttention
from r1mega.model.latent_attention import LatentAttention
from r1mega.model.layer import PolicyLayer
from r1mega.model.router import Router

# The names Transformer Engine's fused layers give the norms, so that a checkpoint fits both (local -> stored name).
STORED_NAMES = {
    "self_attention.q_layernorm.weight": "self_attention.linear_q_up_proj.layer_norm_weight",
    "self_attention.kv_layernorm.weight": "self_attention.linear_kv_up_proj.layer_norm_weight",
}
DENSE_STORED_NAMES = {"pre_mlp_layernorm.weight": "mlp.linear_fc1.layer_norm_weight"}
GROUPED_STORED_NAMES = DENSE_STORED_NAMES | {
    "input_layernorm.weight": "self_attention.linear_qkv.layer_norm_weight"}


def block_spec(config: TransformerConfig, vp_stage: int | None) -> TransformerBlockSubmodules:
    """The decoder layers of this stage."""
    spec = get_gpt_decoder_block_spec(
        config, use_transformer_engine=False, normalization="RMSNorm", vp_stage=vp_stage)
    for layer in spec.layer_specs:
        if config.multi_latent_attention:
            _place_our_modules(layer)
        else:
            _place_grouped_attention(layer)
    spec.layer_norm = RMSNorm
    return spec


def mtp_spec(config: TransformerConfig, vp_stage: int | None) -> ModuleSpec | None:
    """The MTP block, made like the last decoder layer of the whole model (this stage may have none)."""
    if not config.mtp_num_layers:
        return None
    last = get_gpt_decoder_layer_specs(
        config, use_transformer_engine=False, normalization="RMSNorm", vp_stage=vp_stage)[-1]
    spec = get_gpt_mtp_block_spec(config, last, use_transformer_engine=False, vp_stage=vp_stage)
    _place_our_modules(last)  # afterwards: Megatron insists on seeing its own layer class
    if spec is not None:
        for layer in spec.layer_specs:
            layer.submodules.enorm = layer.submodules.hnorm = layer.submodules.layer_norm = RMSNorm
    return spec


def _place_grouped_attention(layer: ModuleSpec) -> None:
    """In a layer of a dense student; the layer itself and its FFN are Megatron's."""
    parts = layer.submodules
    parts.input_layernorm = parts.pre_mlp_layernorm = RMSNorm
    parts.self_attention.module = GroupedAttention
    parts.self_attention.submodules.core_attention = CausalAttention
    parts.sharded_state_dict_keys_map = GROUPED_STORED_NAMES


def _place_our_modules(layer: ModuleSpec) -> None:
    layer.module = PolicyLayer
    parts = layer.submodules
    parts.input_layernorm = parts.pre_mlp_layernorm = RMSNorm
    parts.self_attention.module = LatentAttention
    attention = parts.self_attention.submodules
    attention.core_attention = CausalAttention
    attention.q_layernorm = attention.kv_layernorm = RMSNorm
    is_moe = isinstance(parts.mlp, partial) and parts.mlp.func is MoELayer
    if is_moe:
        parts.mlp.keywords["submodules"].router = Router
    parts.sharded_state_dict_keys_map = STORED_NAMES | ({} if is_moe else DENSE_STORED_NAMES)

"""Our model and layout as Megatron's configuration."""

import torch
import torch.nn.functional as F
from megatron.core.transformer.transformer_config import MLATransformerConfig, TransformerConfig

from r1mega.config import LayoutConfig, ModelConfig
from r1mega.model.settings import PolicySettings
from r1mega.model.stages import pipeline_layout

SELECTIVE = ["core_attn"]  # what is cheap to compute again and large to keep
SELECTIVE_WITH_LATENTS = [*SELECTIVE, "mla_up_proj"]


def transformer_config(
    model: ModelConfig, layout: LayoutConfig, settings: PolicySettings, device: torch.device
) -> TransformerConfig:
    """Megatron's configuration of the policy. Every field that is not Megatron's default is here, and only here."""
    dtype = torch.bfloat16 if settings.precision == "bf16" else torch.float32
    kind, selective = ((TransformerConfig, SELECTIVE) if model.is_dense
                       else (MLATransformerConfig, SELECTIVE_WITH_LATENTS))
    return kind(
        **_shape(model), **_attention(model), **_experts(model, settings), **_layout(model, layout),
        params_dtype=dtype, pipeline_dtype=dtype, bf16=settings.precision == "bf16",
        use_cpu_initialization=device.type == "cpu", init_method_std=model.init_std,
        attention_dropout=0.0, hidden_dropout=0.0,
        # The loss is a sum; the step divides once by the global count, whatever the micro-batches and replicas.
        calculate_per_token_loss=True, variable_seq_lengths=True,
        mtp_num_layers=model.num_mtp_layers or None, mtp_detach_heads=settings.mtp == "detached",
        recompute_granularity=None if settings.recompute == "none" else settings.recompute,
        recompute_modules=selective if settings.recompute == "selective" else None,
        recompute_method="uniform" if settings.recompute == "full" else None,
        recompute_num_layers=1 if settings.recompute == "full" else None,
        transformer_impl="local", bias_activation_fusion=False, bias_dropout_fusion=False, apply_rope_fusion=False,
        gradient_accumulation_fusion=False, masked_softmax_fusion=False, cuda_graph_modules=[],
        hetereogenous_dist_checkpoint=True,  # a layer's weights under its own number, also where all layers are alike
    )


def _shape(model: ModelConfig) -> dict:
    return dict(
        num_layers=model.num_layers, hidden_size=model.hidden_size, ffn_hidden_size=model.ffn_hidden_size,
        num_attention_heads=model.num_attention_heads,
        normalization="RMSNorm", layernorm_epsilon=model.norm_eps, persist_layer_norm=False,
        add_bias_linear=False, gated_linear_unit=True, activation_func=F.silu,
    )


def _attention(model: ModelConfig) -> dict:
    if model.is_dense:
        return dict(num_query_groups=model.num_key_value_heads, kv_channels=model.head_dim,
                    add_qkv_bias=model.qkv_bias)
    latent = dict(
        multi_latent_attention=True, qk_layernorm=True,
        q_lora_rank=model.q_lora_rank, kv_lora_rank=model.kv_lora_rank, qk_head_dim=model.qk_nope_head_dim,
        qk_pos_emb_head_dim=model.qk_rope_head_dim, v_head_dim=model.v_head_dim, rotary_base=model.rope_theta,
    )
    if model.yarn is None:
        # Megatron applies mscale for plain RoPE too, unless the factor is 1.
        return latent | dict(rope_type="rope", rotary_scaling_factor=1.0, mscale_all_dim=0.0)
    yarn = model.yarn
    return latent | dict(
        rope_type="yarn", rotary_scaling_factor=yarn.factor,
        original_max_position_embeddings=yarn.original_context, beta_fast=yarn.beta_fast, beta_slow=yarn.beta_slow,
        mscale=yarn.mscale, mscale_all_dim=yarn.mscale_all_dim)


def _experts(model: ModelConfig, settings: PolicySettings) -> dict:
    if model.num_moe_layers == 0:
        return dict(moe_token_dispatcher_type="alltoall")  # looked at even without experts
    grouped = model.num_expert_groups > 1
    return dict(
        num_moe_experts=model.num_experts, moe_ffn_hidden_size=model.moe_ffn_hidden_size,
        moe_layer_freq=[0] * model.num_dense_layers + [1] * model.num_moe_layers,
        moe_shared_expert_intermediate_size=model.num_shared_experts * model.moe_ffn_hidden_size or None,
        moe_router_topk=model.num_experts_per_token, moe_router_score_function="sigmoid",
        moe_router_num_groups=model.num_expert_groups if grouped else None,
        moe_router_group_topk=model.num_groups_per_token if grouped else None,
        moe_router_topk_scaling_factor=model.routed_scaling_factor, moe_router_dtype="fp32",
        moe_router_enable_expert_bias=True,
        # Bias updates are our step's (a skipped step must not move the bias) and the balance term our router's.
        moe_router_bias_update_rate=0.0, moe_router_load_balancing_type="none",
        moe_token_dispatcher_type="alltoall", moe_grouped_gemm=False,
    )


def _layout(model: ModelConfig, layout: LayoutConfig) -> dict:
    virtual = layout.virtual_stages if layout.virtual_stages > 1 else None
    return dict(
        tensor_model_parallel_size=layout.tensor_parallel, sequence_parallel=layout.sequence_parallel,
        pipeline_model_parallel_size=layout.pipeline_parallel, virtual_pipeline_model_parallel_size=virtual,
        pipeline_model_parallel_layout=pipeline_layout(model, layout),
        context_parallel_size=layout.context_parallel, expert_model_parallel_size=layout.expert_parallel,
        expert_tensor_parallel_size=layout.expert_tensor_parallel,
        # With two stages the batched send and receive pairs of the interleaved schedule mismatch silently.
        batch_p2p_comm=False,
    )

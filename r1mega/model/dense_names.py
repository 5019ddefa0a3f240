"""Weight names of the dense students: transformers' Qwen2 and Llama, which name theirs alike, and Megatron's."""

from collections.abc import Iterator

from r1mega.config import ModelConfig
from r1mega.model.weight import EMBEDDING, HEAD, Weight, gated_ffn, under, weight_of


def dense_weights(m: ModelConfig) -> Iterator[Weight]:
    """Every weight once; tied embeddings have no head of their own."""
    vocabulary = (m.vocab_size, m.hidden_size)
    yield weight_of(EMBEDDING, {"model.embed_tokens.weight": vocabulary})
    yield weight_of("decoder.final_layernorm.weight", {"model.norm.weight": (m.hidden_size,)})
    if not m.tied_embeddings:
        yield weight_of(HEAD, {"lm_head.weight": vocabulary})
    weights = _attention(m) + gated_ffn("mlp", "mlp", m.hidden_size, m.ffn_hidden_size)
    for layer in range(m.num_layers):
        yield from under(f"decoder.layers.{layer}.", f"model.layers.{layer}.", weights)


def _attention(m: ModelConfig) -> list[Weight]:
    """Norms around the block included. Megatron stacks, for each key head, its queries, the key and the value."""
    h, groups = m.hidden_size, m.num_key_value_heads
    rows = {"q_proj": m.num_attention_heads * m.head_dim, "k_proj": groups * m.head_dim, "v_proj": groups * m.head_dim}
    weights = [
        weight_of("input_layernorm.weight", {"input_layernorm.weight": (h,)}),
        weight_of("self_attention.linear_qkv.weight",
                  {f"self_attn.{name}.weight": (count, h) for name, count in rows.items()}, groups),
        weight_of("self_attention.linear_proj.weight", {"self_attn.o_proj.weight": (h, rows["q_proj"])}),
        weight_of("pre_mlp_layernorm.weight", {"post_attention_layernorm.weight": (h,)}),
    ]
    if m.qkv_bias:
        biases = {f"self_attn.{name}.bias": (count,) for name, count in rows.items()}
        weights.append(weight_of("self_attention.linear_qkv.bias", biases, groups))
    return weights

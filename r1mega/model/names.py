"""One table of weight names, read both ways: Megatron's GPTModel and the published files.

Megatron's names are those of the local (not Transformer Engine) layer specs, with global indices of layers and
experts (`global_names.py` makes them from what a rank holds). The other side is the layout of the Hugging Face
repositories: deepseek-ai/DeepSeek-V3 and -R1 (here), in which the MTP module is one more layer after the last, with
copies of the embedding and the head that it shares with the main model; Qwen2 and Llama (`dense_names.py`).

Torch-free: shapes come from `ModelConfig`, so a folder of files can be checked before anything is built.
"""

from collections.abc import Iterator
from functools import cached_property

from r1mega.config import ModelConfig
from r1mega.model.dense_names import dense_weights
from r1mega.model.weight import EMBEDDING, HEAD, Shape, Weight, gated_ffn, under, weight_of


def _outside_layers(m: ModelConfig) -> list[Weight]:
    vocabulary = (m.vocab_size, m.hidden_size)
    return [
        weight_of(EMBEDDING, {"model.embed_tokens.weight": vocabulary}),
        weight_of("decoder.final_layernorm.weight", {"model.norm.weight": (m.hidden_size,)}),
        weight_of(HEAD, {"lm_head.weight": vocabulary}),
    ]


def _attention(m: ModelConfig) -> list[Weight]:
    """Norms around the block included. Rows of q_b and kv_b go by head: [nope, rope] and [nope, v]."""
    h, heads = m.hidden_size, m.num_attention_heads
    q_rows = heads * (m.qk_nope_head_dim + m.qk_rope_head_dim)
    kv_rows = heads * (m.qk_nope_head_dim + m.v_head_dim)
    table: list[tuple[str, str, Shape]] = [
        ("input_layernorm", "input_layernorm", (h,)),
        ("self_attention.linear_q_down_proj", "self_attn.q_a_proj", (m.q_lora_rank, h)),
        ("self_attention.q_layernorm", "self_attn.q_a_layernorm", (m.q_lora_rank,)),
        ("self_attention.linear_q_up_proj", "self_attn.q_b_proj", (q_rows, m.q_lora_rank)),
        ("self_attention.linear_kv_down_proj", "self_attn.kv_a_proj_with_mqa",
         (m.kv_lora_rank + m.qk_rope_head_dim, h)),
        ("self_attention.kv_layernorm", "self_attn.kv_a_layernorm", (m.kv_lora_rank,)),
        ("self_attention.linear_kv_up_proj", "self_attn.kv_b_proj", (kv_rows, m.kv_lora_rank)),
        ("self_attention.linear_proj", "self_attn.o_proj", (h, heads * m.v_head_dim)),
        ("pre_mlp_layernorm", "post_attention_layernorm", (h,)),
    ]
    return [weight_of(f"{ours}.weight", {f"{theirs}.weight": shape}) for ours, theirs, shape in table]


def _experts(m: ModelConfig) -> list[Weight]:
    h, width = m.hidden_size, m.moe_ffn_hidden_size
    weights = [
        weight_of("mlp.router.weight", {"mlp.gate.weight": (m.num_experts, h)}),
        weight_of("mlp.router.expert_bias", {"mlp.gate.e_score_correction_bias": (m.num_experts,)}),
    ]
    for expert in range(m.num_experts):
        weights += gated_ffn(f"mlp.experts.local_experts.{expert}", f"mlp.experts.{expert}", h, width)
    if m.num_shared_experts:
        weights += gated_ffn("mlp.shared_experts", "mlp.shared_experts", h, m.num_shared_experts * width)
    return weights


def _around_mtp_layer(m: ModelConfig) -> list[Weight]:
    """eh_proj's columns: first the normed embedding of the next token, then the normed hidden state. Megatron's
    order (multi_token_prediction.py, _concat_embeddings), and the published weights' as vLLM's deepseek_mtp.py and
    transformers' MtpLayer read them; equation 21 of the report writes the two the other way round."""
    h = m.hidden_size
    return [
        weight_of("enorm.weight", {"enorm.weight": (h,)}),
        weight_of("hnorm.weight", {"hnorm.weight": (h,)}),
        weight_of("eh_proj.weight", {"eh_proj.weight": (h, 2 * h)}),
        weight_of("final_layernorm.weight", {"shared_head.norm.weight": (h,)}),
    ]


def _all_weights(m: ModelConfig) -> Iterator[Weight]:
    if m.is_dense:
        yield from dense_weights(m)
        return
    yield from _outside_layers(m)
    dense = _attention(m) + gated_ffn("mlp", "mlp", m.hidden_size, m.ffn_hidden_size)
    sparse = _attention(m) + _experts(m)
    for layer in range(m.num_layers):
        kind = dense if layer < m.num_dense_layers else sparse
        yield from under(f"decoder.layers.{layer}.", f"model.layers.{layer}.", kind)
    for layer in range(m.num_mtp_layers):
        theirs = f"model.layers.{m.num_layers + layer}."
        yield from under(f"mtp.layers.{layer}.", theirs, _around_mtp_layer(m))
        # the kind of the last trunk layer: Megatron builds it so, and DeepSeek-V3's is sparse
        last = dense if m.num_dense_layers == m.num_layers else sparse
        yield from under(f"mtp.layers.{layer}.mtp_model_layer.", theirs, last)


class NameTable:
    """All weights of a model, with both names of each."""

    def __init__(self, model: ModelConfig) -> None:
        self.model = model
        self.weights = tuple(_all_weights(model))

    @cached_property
    def copies(self) -> dict[str, str]:
        """Tensors that files may hold twice: name of the copy (under the MTP layer, or the head of a model whose
        embedding is its head) -> name of the original."""
        if self.model.tied_embeddings:
            return {"lm_head.weight": "model.embed_tokens.weight"}
        layers = range(self.model.num_layers, self.model.num_layers + self.model.num_mtp_layers)
        pairs = (("embed_tokens.weight", "model.embed_tokens.weight"),
                 ("shared_head.head.weight", "lm_head.weight"))
        return {f"model.layers.{layer}.{copy}": original for layer in layers for copy, original in pairs}

    @property
    def written_copies(self) -> dict[str, str]:
        """Those of `copies` that published files do hold."""
        return {} if self.model.tied_embeddings else self.copies

    def file_shapes(self) -> dict[str, Shape]:
        """Every tensor that a complete folder of files holds, but for the copies, and its shape."""
        return {name: shape for weight in self.weights for name, shape in weight.files.items()}

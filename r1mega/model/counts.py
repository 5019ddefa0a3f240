"""How many parameters a policy has, how many of them a token uses, and what its forward pass costs.

Pure arithmetic on `ModelConfig`: nothing is allocated and torch is not imported.

What is counted is what the published files hold: every weight once, the selection bias of each router included (a
buffer in Megatron and in transformers, a tensor in the files), rows that only pad the vocabulary excluded. The copies
of the embedding and of the head that DeepSeek's files repeat under the MTP layer are not parameters of their own.
"""

from dataclasses import dataclass

from r1mega.config import ModelConfig


@dataclass(frozen=True)
class ParameterCounts:
    """Exact parameter counts by part. All but `mtp` are of the main model (trunk, embedding and head)."""

    embedding: int
    head: int
    """0 where the embedding is the head."""
    attention: int
    """MLA projections and the two norms of its latents; of a dense student, projections and biases."""
    dense_ffn: int
    routed_experts: int
    shared_experts: int
    routers: int
    """Weights and selection biases."""
    norms: int
    """Two a layer, and the final one."""
    mtp: int
    """The MTP module without the embedding and the head, which it shares with the main model."""
    mtp_experts: int
    """Of `mtp`, the routed experts of its layer."""
    idle_experts: int
    """Of the routed experts, those that any one token is not sent to."""

    @property
    def main(self) -> int:
        """The model without MTP: what transformers' DeepseekV3ForCausalLM holds. DeepSeek-V3's published 671B."""
        return (self.embedding + self.head + self.attention + self.dense_ffn + self.routed_experts
                + self.shared_experts + self.routers + self.norms)

    @property
    def active(self) -> int:
        """What one token is multiplied with in the main model: all but the embedding, which is a look-up (unless it is
        the head), and the experts it is not sent to. DeepSeek-V3's published 36.6B (README_WEIGHTS.md beside its
        weights)."""
        return self.main - self.idle_experts - (self.embedding if self.head else 0)

    @property
    def total(self) -> int:
        """Everything that is trained or balanced, MTP included."""
        return self.main + self.mtp

    @property
    def sharded_experts(self) -> int:
        """All that expert parallelism spreads over ranks: the routed experts, those of MTP included."""
        return self.routed_experts + self.mtp_experts

    @property
    def in_files(self) -> int:
        """Elements in files of DeepSeek's layout, where the MTP layer carries copies of embedding and head.

        With the block scales of FP8, DeepSeek-V3's "685B" on its Hugging Face page.
        """
        copies = self.embedding + self.head if self.mtp else 0
        return self.total + copies


def _attention(m: ModelConfig) -> int:
    """Weights of one attention block, norms of latents (arXiv 2412.19437, equations 1-11) and biases included."""
    if m.is_dense:
        return _projections(m) + (_qkv_rows(m) if m.qkv_bias else 0)
    return _projections(m) + m.q_lora_rank + m.kv_lora_rank


def _qkv_rows(m: ModelConfig) -> int:
    """Rows of the projections to queries, keys and values of a dense student."""
    return (m.num_attention_heads + 2 * m.num_key_value_heads) * m.head_dim


def _projections(m: ModelConfig) -> int:
    """Matrices of one attention block."""
    if m.is_dense:
        return m.hidden_size * (_qkv_rows(m) + m.num_attention_heads * m.head_dim)
    qk_head_dim = m.qk_nope_head_dim + m.qk_rope_head_dim
    down = m.hidden_size * (m.q_lora_rank + m.kv_lora_rank + m.qk_rope_head_dim)
    up_q = m.q_lora_rank * m.num_attention_heads * qk_head_dim
    up_kv = m.kv_lora_rank * m.num_attention_heads * (m.qk_nope_head_dim + m.v_head_dim)
    out = m.num_attention_heads * m.v_head_dim * m.hidden_size
    return down + up_q + up_kv + out


def _dense_ffn(m: ModelConfig) -> int:
    return 3 * m.hidden_size * m.ffn_hidden_size


def _expert(m: ModelConfig) -> int:
    """Gate, up and down projection of one routed expert."""
    return 3 * m.hidden_size * m.moe_ffn_hidden_size


def _router(m: ModelConfig) -> int:
    return m.num_experts * (m.hidden_size + 1)


def _mtp_outside_layer(m: ModelConfig) -> int:
    """Norms of embedding, hidden state and output, and the projection of the first two joined."""
    return 3 * m.hidden_size + 2 * m.hidden_size * m.hidden_size


def _last_layer(m: ModelConfig) -> int:
    """The kind of layer that the MTP module has too."""
    if m.num_moe_layers:
        ffn = _router(m) + (m.num_experts + m.num_shared_experts) * _expert(m)
    else:
        ffn = _dense_ffn(m)
    return _attention(m) + 2 * m.hidden_size + ffn


def count_parameters(model: ModelConfig) -> ParameterCounts:
    """Exact counts of every part; see `ParameterCounts` for what each holds."""
    m = model
    vocabulary = m.vocab_size * m.hidden_size
    if m.is_dense:
        return ParameterCounts(
            embedding=vocabulary, head=0 if m.tied_embeddings else vocabulary, attention=m.num_layers * _attention(m),
            dense_ffn=m.num_layers * _dense_ffn(m), norms=(2 * m.num_layers + 1) * m.hidden_size,
            routed_experts=0, shared_experts=0, routers=0, mtp=0, mtp_experts=0, idle_experts=0)
    return ParameterCounts(
        embedding=vocabulary,
        head=vocabulary,
        attention=m.num_layers * _attention(m),
        dense_ffn=m.num_dense_layers * _dense_ffn(m),
        routed_experts=m.num_moe_layers * m.num_experts * _expert(m),
        shared_experts=m.num_moe_layers * m.num_shared_experts * _expert(m),
        routers=m.num_moe_layers * _router(m),
        norms=(2 * m.num_layers + 1) * m.hidden_size,
        mtp=m.num_mtp_layers * (_last_layer(m) + _mtp_outside_layer(m)),
        mtp_experts=m.num_mtp_layers * m.num_experts * _expert(m) if m.num_moe_layers else 0,
        idle_experts=m.num_moe_layers * (m.num_experts - m.num_experts_per_token) * _expert(m),
    )


def padding_parameters(model: ModelConfig) -> int:
    """Rows that a built model holds beyond `count_parameters(model).total`: padding of embedding and head."""
    return (1 if model.tied_embeddings else 2) * (model.padded_vocab_size - model.vocab_size) * model.hidden_size


def _layer_flops(m: ModelConfig, context: int, ffn_weights: int) -> float:
    """One layer, a token: two operations a weight, and causal attention over the (context + 1) / 2 positions that a
    token sees on average."""
    qk_and_v = 2 * m.head_dim if m.is_dense else m.qk_nope_head_dim + m.qk_rope_head_dim + m.v_head_dim
    per_position = m.num_attention_heads * qk_and_v
    return 2 * (_projections(m) + ffn_weights) + 2 * per_position * (context + 1) / 2


def forward_flops_per_token(model: ModelConfig, context: int, *, mtp: bool = True) -> float:
    """Floating-point operations of a forward pass, a token, averaged over sequences of `context` tokens.

    2 x (weights of all matrices the token meets: MLA, dense FFN, chosen and shared experts, router, head)
    + layers x 2 x heads x (qk_nope + qk_rope + v) x (context + 1) / 2 for scores and weighted values, each causal
    pair counted once. Norms, rotations, softmax and the embedding's look-up are left out. With `mtp`, the MTP
    module (its projection, a layer like the last one and the head again) is added. A backward pass costs twice as much.
    Keys and values are expanded from the latent for every token, as in training; decoding with absorbed
    projections costs differently.
    """
    m = model
    head = m.vocab_size * m.hidden_size
    if m.is_dense:
        return m.num_layers * _layer_flops(m, context, _dense_ffn(m)) + 2 * head
    moe_ffn = (m.num_experts * m.hidden_size
               + (m.num_experts_per_token + m.num_shared_experts) * _expert(m))
    dense_layer, moe_layer = (_layer_flops(m, context, ffn) for ffn in (_dense_ffn(m), moe_ffn))
    flops = m.num_dense_layers * dense_layer + m.num_moe_layers * moe_layer + 2 * head
    if mtp:
        last_layer = moe_layer if m.num_moe_layers else dense_layer
        flops += m.num_mtp_layers * (last_layer + 2 * 2 * m.hidden_size**2 + 2 * head)
    return flops

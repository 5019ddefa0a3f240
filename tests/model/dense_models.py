"""Small dense students, as ours and as transformers', and what transformers computes with them."""

from pathlib import Path
from typing import Any

import torch

from r1mega.config import ModelConfig
from r1mega.config.model import Llama3Rope

SIZES: dict[str, Any] = dict(
    hidden_size=64, num_layers=4, ffn_hidden_size=96, num_attention_heads=4, num_key_value_heads=2, head_dim=12,
    max_context=64)  # heads together are not as wide as the model
QWEN2 = ModelConfig(architecture="qwen2", vocab_size=200, tied_embeddings=True, **SIZES)  # 56 padding rows
LLAMA = ModelConfig(architecture="llama", vocab_size=200, norm_eps=1e-5, rope_theta=500_000.0,
                    llama3_rope=Llama3Rope(factor=4.0, original_context=16), **SIZES)

TINY: dict[str, Any] = dict(
    vocab_size=200, hidden_size=64, intermediate_size=96, num_hidden_layers=2, num_attention_heads=8,
    num_key_value_heads=2, max_position_embeddings=256, initializer_range=0.08)
LLAMA3 = dict(rope_type="llama3", rope_theta=500_000.0, factor=4.0, low_freq_factor=1.0, high_freq_factor=4.0,
              original_max_position_embeddings=24)
VARIANTS: dict[str, tuple[str, dict[str, Any]]] = {
    "qwen2": ("Qwen2", dict(rms_norm_eps=1e-5, rope_parameters=dict(rope_type="default", rope_theta=1e6))),
    "qwen2_tied": ("Qwen2", dict(tie_word_embeddings=True, vocab_size=131)),
    "qwen2_many_keys": ("Qwen2", dict(num_key_value_heads=8)),
    "llama": ("Llama", dict(head_dim=12)),
    "llama3_rope": ("Llama", dict(rope_parameters=LLAMA3, num_key_value_heads=4)),
    "llama3_rope_tied": ("Llama", dict(rope_parameters=LLAMA3, tie_word_embeddings=True)),
}

Rows = list[tuple[torch.Tensor, torch.Tensor]]


def make_references(root: str, sequences: list[list[int]]) -> dict[str, Rows]:
    """Every variant's folder under `root`, randomly initialised, and what transformers says of the sequences."""
    import transformers

    references = {}
    for seed, (name, (kind, overrides)) in enumerate(VARIANTS.items()):
        torch.manual_seed(seed)
        config = getattr(transformers, f"{kind}Config")(**(TINY | overrides))
        model = getattr(transformers, f"{kind}ForCausalLM")(config)
        with torch.no_grad():
            for key, tensor in model.named_parameters():
                if "norm" in key:
                    tensor.copy_(1 + 0.2 * torch.randn_like(tensor))
                elif key.endswith("bias"):
                    tensor.copy_(0.5 * torch.randn_like(tensor))
        model.save_pretrained(Path(root) / name, max_shard_size="100KB")
        references[name] = transformers_rows(str(Path(root) / name), sequences)
    return references


@torch.no_grad()
def transformers_rows(folder: str, sequences: list[list[int]]) -> Rows:
    """For each sequence of n tokens, log p of each next token and the entropy there, [n - 1] each, in fp32."""
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    rows = []
    for sequence in sequences:
        ids = torch.tensor(sequence)
        log_p = model(ids[None]).logits[0, :-1].log_softmax(-1)
        rows.append((log_p.gather(-1, ids[1:, None])[:, 0], -(log_p.exp() * log_p).sum(-1)))
    return rows

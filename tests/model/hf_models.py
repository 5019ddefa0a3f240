"""Small DeepSeek-V3 folders as transformers writes them, and what transformers computes with them.

transformers does not save the MTP module, so its tensors are added under the published names, and read back by
transformers' own MtpModel.
"""

import json
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

TINY: dict[str, Any] = dict(
    vocab_size=200, hidden_size=64, intermediate_size=96, moe_intermediate_size=32, num_hidden_layers=3,
    num_attention_heads=4, n_shared_experts=1, n_routed_experts=8, kv_lora_rank=24, q_lora_rank=32,
    qk_rope_head_dim=8, v_head_dim=16, qk_nope_head_dim=12, n_group=4, topk_group=2, num_experts_per_tok=4,
    num_key_value_heads=None, first_k_dense_replace=1, max_position_embeddings=256, initializer_range=0.08,
    num_mtp_layers=1)

YARN = dict(rope_type="yarn", rope_theta=10000.0, factor=8.0, original_max_position_embeddings=32, beta_fast=32.0,
            beta_slow=1.0, mscale=1.0, mscale_all_dim=1.0)

VARIANTS: dict[str, dict[str, Any]] = {
    "plain": {},
    "yarn": dict(rope_parameters=YARN),
    "yarn_mscale": dict(rope_parameters=YARN | dict(mscale=0.707, factor=4.0, beta_fast=16.0)),
    # Megatron's own group score (best topk // group_topk of a group) would choose other experts in these:
    "top2_of_2_groups": dict(num_experts_per_tok=2, rope_parameters=YARN),
    "top3_one_group": dict(num_experts_per_tok=3, topk_group=1, n_group=2, num_attention_heads=8, vocab_size=131),
    "ungrouped": dict(n_group=1, topk_group=1, num_experts_per_tok=2, n_shared_experts=2, routed_scaling_factor=1.0),
    "halves_rope": dict(rope_interleave=False, rope_parameters=YARN),
}


def save_hf_model(folder: Path, overrides: dict[str, Any], dtype: torch.dtype = torch.float32, seed: int = 0) -> None:
    """A randomly initialised model in transformers' files, MTP layer included, no two values special."""
    from transformers import DeepseekV3Config, DeepseekV3ForCausalLM

    torch.manual_seed(seed)
    config = DeepseekV3Config(**(TINY | overrides))
    model = DeepseekV3ForCausalLM(config)
    with torch.no_grad():
        for name, tensor in [*model.named_parameters(), *model.named_buffers()]:
            if "norm" in name:
                tensor.copy_(1 + 0.2 * torch.randn_like(tensor))
            elif name.endswith("e_score_correction_bias"):
                tensor.copy_(0.2 * torch.randn_like(tensor))
    model.to(dtype).save_pretrained(folder, max_shard_size="200KB")
    _add_mtp_layer(folder, model, dtype)


def _add_mtp_layer(folder: Path, model: torch.nn.Module, dtype: torch.dtype) -> None:
    """One more file with a layer like the last one, the tensors around it, and copies of embedding and head."""
    from safetensors import safe_open

    index = json.loads((folder / "model.safetensors.index.json").read_text())
    layers = model.config.num_hidden_layers
    last, new = f"model.layers.{layers - 1}.", f"model.layers.{layers}."
    tensors = {}
    for name, file in index["weight_map"].items():
        if name.startswith(last):
            with safe_open(folder / file, "pt") as handle:
                shape = handle.get_slice(name).get_shape()
            tensors[new + name.removeprefix(last)] = 0.08 * torch.randn(shape) + ("norm" in name)
    hidden = model.config.hidden_size
    tensors[new + "eh_proj.weight"] = 0.08 * torch.randn(hidden, 2 * hidden)
    for norm in ("enorm", "hnorm", "shared_head.norm"):
        tensors[f"{new}{norm}.weight"] = 1 + 0.2 * torch.randn(hidden)
    bias = new + "mlp.gate.e_score_correction_bias"
    tensors = {name: tensor if name == bias else tensor.to(dtype) for name, tensor in tensors.items()}
    tensors[new + "embed_tokens.weight"] = model.get_input_embeddings().weight.detach().clone()
    tensors[new + "shared_head.head.weight"] = model.lm_head.weight.detach().clone()
    save_file(tensors, folder / "mtp.safetensors", metadata={"format": "pt"})
    index["weight_map"] |= dict.fromkeys(tensors, "mtp.safetensors")
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))


def read_all(folder: Path) -> dict[str, torch.Tensor]:
    """Every tensor of every safetensors file."""
    from safetensors.torch import load_file

    return {name: tensor for file in folder.glob("*.safetensors") for name, tensor in load_file(file).items()}


@torch.no_grad()
def reference_log_probs(folder: Path, sequences: list[list[int]]) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """For each sequence of n tokens, what transformers gives in fp32: log p(token t+1 | ..t) [n - 1] by the model and
    log p(token t+2 | ..t+1) [n - 2] by its MTP module."""
    from transformers import DeepseekV3ForCausalLM
    from transformers.modeling_layers import MtpModel

    DeepseekV3ForCausalLM._keys_to_ignore_on_load_unexpected = [r"model\.layers\.3.*"]
    model = DeepseekV3ForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    mtp = MtpModel.from_pretrained(model).eval()
    results = []
    for sequence in sequences:
        ids = torch.tensor([sequence])
        output = model(ids, output_hidden_states=False)
        hidden = model.model(ids).last_hidden_state
        positions = torch.arange(1, len(sequence))[None]
        mtp_hidden = mtp.forward_layer(0, hidden[:, :-1], positions, None, input_ids=ids[:, 1:])
        results.append((_pick(output.logits[0, :-1], ids[0, 1:]),
                        _pick(model.lm_head(mtp_hidden)[0, :-1], ids[0, 2:])))
    return results


def _pick(logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    return logits.log_softmax(-1).gather(-1, targets[:, None])[:, 0]


def transformers_sizes(configs: list[dict[str, Any]]) -> list[int]:
    """Parameters (tied ones once) and selection biases of transformers' models with these config.json fields, made on
    the meta device. For a process that has not imported Megatron: the CPU door takes torch.device("meta") its
    effect."""
    import transformers

    sizes = []
    for fields in configs:
        name = fields["architectures"][0]
        config = getattr(transformers, name.replace("ForCausalLM", "Config")).from_dict(fields)
        with torch.device("meta"):
            model = getattr(transformers, name)(config)
        model.tie_weights()
        biases = [buffer for name, buffer in model.named_buffers() if name.endswith("e_score_correction_bias")]
        assert all(tensor.is_meta for tensor in biases)
        sizes.append(sum(tensor.numel() for tensor in [*model.parameters(), *biases]))
    return sizes

"""Random weights that depend on the seed and on a weight's name alone: the same model under every layout."""

import hashlib
from collections.abc import Sequence

import torch

from r1mega.config import ModelConfig
from r1mega.model.global_names import LocalWeight, local_weights
from r1mega.parallel import Groups


@torch.no_grad()
def initialize(chunks: Sequence[torch.nn.Module], model: ModelConfig, groups: Groups, seed: int) -> None:
    """Normal(0, init_std) for matrices, ones for norms, zeros for biases (arXiv 2412.19437, section 4.2)."""
    for weight in local_weights(chunks, groups):
        if weight.name.endswith("bias"):
            weight.tensor.zero_()
        elif weight.tensor.dim() == 1:
            weight.tensor.fill_(1.0)
        else:
            weight.tensor.copy_(weight.shard_of(_normal(weight, seed) * model.init_std))


def _normal(weight: LocalWeight, seed: int) -> torch.Tensor:
    """The full matrix, fp32, drawn on the CPU."""
    shape = list(weight.tensor.shape)
    if weight.shard_dim is not None:
        shape[weight.shard_dim] *= weight.num_shards
    digest = hashlib.sha256(f"{seed}:{weight.name}".encode()).digest()
    generator = torch.Generator().manual_seed(int.from_bytes(digest[:8], "little") >> 1)
    return torch.randn(shape, generator=generator).to(weight.tensor.device)

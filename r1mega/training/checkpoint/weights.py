"""The weights of a model as sharded tensors, and back into the model."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from r1mega.config import UserError
from r1mega.training.checkpoint.shards import ShardReader

if TYPE_CHECKING:
    from r1mega.parallel import Groups

EXTRA_STATE = "_extra_state"  # Transformer Engine's FP8 scales, as pickled bytes: rebuilt, never saved


def bare_models(chunks: Sequence[torch.nn.Module]) -> list[torch.nn.Module]:
    """The GPTModels inside DDP and precision wrappers, one a virtual stage."""
    bare = []
    for chunk in chunks:
        while hasattr(chunk, "module"):
            chunk = chunk.module
        bare.append(chunk)
    return bare


def sharded_weights(chunks: Sequence[torch.nn.Module], groups: "Groups") -> dict[str, Any]:
    """Sharded state dict of all chunks: {"chunk0": {...}, ...}; the tensors are the parameters themselves.

    The names in it do not count, the ShardedTensors' keys do: Megatron's global names, equal in every layout.
    """
    metadata = {"dp_cp_group": groups.pg.dp_cp, "singleton_local_shards": False}
    return {
        f"chunk{i}": chunk.sharded_state_dict(metadata=metadata)
        for i, chunk in enumerate(bare_models(chunks))
    }


def load_weights(folder: Path, chunks: Sequence[torch.nn.Module], groups: "Groups") -> None:
    """Fill the models in place from a weights folder written under any layout. Raises UserError in one
    line."""
    loaded = ShardReader(folder).read(sharded_weights(chunks, groups))
    for i, chunk in enumerate(bare_models(chunks)):
        missing, unexpected = chunk.load_state_dict(loaded.get(f"chunk{i}", {}), strict=False)
        strange = [name for name in (*missing, *unexpected) if not name.endswith(EXTRA_STATE)]
        if strange:
            raise UserError(f"{folder}: does not fit the model; first of {len(strange)} names: {strange[0]}")

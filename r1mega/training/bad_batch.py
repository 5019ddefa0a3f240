"""The batch of a step that was not finite, kept for whoever looks into it."""

from collections.abc import Sequence
from pathlib import Path

from safetensors.torch import save_file

from r1mega.record import PackedBatch


def save_bad_batch(folder: Path, packs: Sequence[PackedBatch], rank: int) -> None:
    """Write this rank's packs to folder/rank-R.safetensors, as "PACK.FIELD" tensors."""
    folder.mkdir(parents=True, exist_ok=True)
    tensors = {}
    for number, pack in enumerate(packs):
        fields = {name: getattr(pack, name) for name in ("token_ids", "targets", "loss_mask", "cu_seqlens")}
        for name, tensor in {**fields, **pack.per_token, **pack.per_sample}.items():
            tensors[f"{number}.{name}"] = tensor.detach().cpu().contiguous()
    save_file(tensors, folder / f"rank-{rank}.safetensors")

"""What a checkpoint folder holds, read by PyTorch's own loader: global tensors by name, whatever layout wrote
them."""

import functools
import io
import logging
from pathlib import Path

import torch
import torch.distributed.checkpoint as dcp
from torch.distributed.checkpoint import FileSystemReader
from torch.distributed.checkpoint.metadata import TensorStorageMetadata


def global_tensors(folder: Path) -> dict[str, torch.Tensor]:
    """All tensors of one part of a checkpoint (weights, optimizer, ...)."""
    warnings = logging.root.manager.disable
    logging.disable(logging.WARNING)  # what the loader says of running without ranks
    try:
        return _load(FileSystemReader(folder))
    finally:
        logging.disable(warnings)


def _load(reader: FileSystemReader) -> dict[str, torch.Tensor]:
    described = reader.read_metadata().state_dict_metadata
    tensors = {
        key: torch.full(tuple(value.size), 7, dtype=value.properties.dtype)
        for key, value in described.items()
        if isinstance(value, TensorStorageMetadata)
    }
    dcp.load(tensors, storage_reader=reader, no_dist=True)
    return tensors


@functools.lru_cache(maxsize=3)
def whole_checkpoint(folder: Path) -> dict[str, torch.Tensor]:
    """`part/name` -> tensor, of all parts."""
    return {
        f"{part}/{name}": tensor
        for part in ("weights", "optimizer", "reference")
        for name, tensor in global_tensors(folder / part).items()
    }


def same_bits(a: torch.Tensor, b: torch.Tensor) -> bool:
    return a.dtype == b.dtype and a.shape == b.shape and _bytes(a) == _bytes(b)


def _bytes(tensor: torch.Tensor) -> bytes:
    stream = io.BytesIO()
    stream.write(tensor.contiguous().view(-1).view(torch.uint8).numpy().tobytes())
    return stream.getvalue()

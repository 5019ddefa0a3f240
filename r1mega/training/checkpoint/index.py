"""index.json: where in which file each piece of each global tensor lies. All that loading reads besides raw
bytes.

Megatron's own index, `.metadata`, is a pickle. We write it too, so that Megatron's loader can read our
folders, and never open it ourselves.
"""

import json
import math
import pickle
import re
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch.distributed.checkpoint.filesystem import CURRENT_DCP_VERSION, _StorageInfo
from torch.distributed.checkpoint.metadata import (
    BytesStorageMetadata,
    ChunkStorageMetadata,
    Metadata,
    MetadataIndex,
    StorageMeta,
    TensorProperties,
    TensorStorageMetadata,
)

from r1mega.config import UserError
from r1mega.training.checkpoint.files import dump_json

INDEX = "index.json"
COMMON_STATE = "common_state/shard_0_1"  # the object Megatron's loader insists on; ours holds an empty dict
_DTYPES = {
    str(dtype).removeprefix("torch."): dtype
    for dtype in (
        torch.float64,
        torch.float32,
        torch.bfloat16,
        torch.float16,
        torch.float8_e4m3fn,
        torch.uint8,
        torch.int8,
        torch.int16,
        torch.int32,
        torch.int64,
        torch.bool,
    )
}
_FILE = re.compile(r"__\d+_\d+\.distcp\Z")


@dataclass(frozen=True, slots=True)
class Chunk:
    """A box of a global tensor, and the bytes [start, start + length) of `file` that torch.save made of
    it."""

    offset: tuple[int, ...]
    shape: tuple[int, ...]
    file: str
    start: int
    length: int


@dataclass(frozen=True, slots=True)
class StoredTensor:
    """A global tensor and the chunks that tile it."""

    dtype: str
    shape: tuple[int, ...]
    chunks: tuple[Chunk, ...]

    @property
    def torch_dtype(self) -> torch.dtype:
        return _DTYPES[self.dtype]


@dataclass(frozen=True, slots=True)
class ChunkRow:
    """One chunk as the rank that wrote it reports it."""

    key: str
    dtype: str
    global_shape: tuple[int, ...]
    chunk: Chunk

    def to_json(self) -> list[Any]:
        return [self.key, self.dtype, self.global_shape, list(asdict(self.chunk).values())]

    @staticmethod
    def from_json(row: list[Any]) -> "ChunkRow":
        offset, shape, file, start, length = row[3]
        return ChunkRow(
            row[0], row[1], tuple(row[2]), Chunk(tuple(offset), tuple(shape), file, start, length)
        )


def merge_rows(rows: Iterable[ChunkRow]) -> dict[str, StoredTensor]:
    """All ranks' rows as one index. Raises ValueError where the chunks of a tensor do not tile it exactly."""
    index: dict[str, StoredTensor] = {}
    for row in rows:
        seen = index.get(row.key, StoredTensor(row.dtype, row.global_shape, ()))
        if (seen.dtype, seen.shape) != (row.dtype, row.global_shape):
            raise ValueError(
                f"{row.key}: saved as {seen.dtype}{seen.shape} and as {row.dtype}{row.global_shape}"
            )
        index[row.key] = StoredTensor(row.dtype, row.global_shape, (*seen.chunks, row.chunk))
    for key, tensor in index.items():
        _check_tiling(key, tensor)
    return index


def _check_tiling(key: str, tensor: StoredTensor) -> None:
    """Boxes that lie inside, apart from one another, and hold as many elements as the tensor, tile it."""
    for chunk in tensor.chunks:
        ends = zip(chunk.offset, chunk.shape, tensor.shape, strict=True)
        if any(offset < 0 or offset + size > total for offset, size, total in ends):
            raise ValueError(f"a chunk of {key} reaches past its end")
    covered = sum(math.prod(chunk.shape) for chunk in tensor.chunks)
    if covered != math.prod(tensor.shape) or _overlap(tensor.chunks):
        raise ValueError(
            f"{key}: {len(tensor.chunks)} chunks hold {covered} of {math.prod(tensor.shape)} elements; "
            f"every element must be saved by exactly one rank"
        )


def _overlap(chunks: Iterable[Chunk]) -> bool:
    """Whether an element is in two of the boxes. Compared are those that meet along the first dimension."""
    near: list[Chunk] = []
    for chunk in sorted((chunk for chunk in chunks if math.prod(chunk.shape)), key=lambda chunk: chunk.offset):
        near = [other for other in near if _meet(other, chunk, dims=1)]
        if any(_meet(other, chunk, dims=len(chunk.shape)) for other in near):
            return True
        near.append(chunk)
    return False


def _meet(a: Chunk, b: Chunk, dims: int) -> bool:
    """Whether the boxes share something, looking at the first `dims` dimensions only."""
    ranges = list(zip(a.offset, a.shape, b.offset, b.shape, strict=True))[:dims]
    return all(start < begin + size and begin < start + extent for start, extent, begin, size in ranges)


def index_bytes(index: Mapping[str, StoredTensor]) -> bytes:
    """What goes into index.json."""
    return dump_json(
        {
            key: {
                "dtype": tensor.dtype,
                "shape": tensor.shape,
                "chunks": [list(asdict(chunk).values()) for chunk in tensor.chunks],
            }
            for key, tensor in index.items()
        }
    )


def read_index(folder: Path) -> dict[str, StoredTensor]:
    """Parse folder/index.json. Raises UserError in one line; no file outside `folder` can be named by it."""
    path = folder / INDEX
    try:
        fields = json.loads(path.read_bytes())
        return {key: _parse_tensor(key, tensor) for key, tensor in fields.items()}
    except OSError as error:
        raise UserError(
            f"{path}: {error.strerror or error}; weights are read from a folder that r1mega wrote "
            f"(other formats: r1mega import)"
        ) from None
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise UserError(
            f"{path}: not an index of tensors ({type(error).__name__}: {str(error)[:120]})"
        ) from None


def _parse_tensor(key: str, fields: Mapping[str, Any]) -> StoredTensor:
    if fields["dtype"] not in _DTYPES:
        raise ValueError(f"{key} has dtype {fields['dtype']!r}")
    chunks = tuple(ChunkRow.from_json([key, "", (), chunk]).chunk for chunk in fields["chunks"])
    tensor = StoredTensor(fields["dtype"], _sizes(fields["shape"]), chunks)
    for chunk in chunks:
        if not _FILE.match(chunk.file):
            raise ValueError(f"{key} lies in file {chunk.file!r}")
        _sizes((*chunk.offset, *chunk.shape, chunk.start, chunk.length))
    _check_tiling(key, tensor)
    return tensor


def _sizes(values: Iterable[Any]) -> tuple[int, ...]:
    result = tuple(values)
    if any(type(value) is not int or value < 0 for value in result):
        raise ValueError(f"bad sizes {result}")
    return result


def metadata_pickle(index: Mapping[str, StoredTensor], common_state: Chunk) -> bytes:
    """`.metadata` for Megatron's and PyTorch's own loaders
    (torch.distributed.checkpoint.metadata.Metadata)."""
    described: dict[str, Any] = {COMMON_STATE: BytesStorageMetadata()}
    stored = {MetadataIndex(COMMON_STATE): _location(common_state)}
    for key, tensor in index.items():
        chunks = [ChunkStorageMetadata(torch.Size(c.offset), torch.Size(c.shape)) for c in tensor.chunks]
        properties = TensorProperties(dtype=tensor.torch_dtype)
        described[key] = TensorStorageMetadata(properties, torch.Size(tensor.shape), chunks)
        stored |= {MetadataIndex(key, chunk.offset): _location(chunk) for chunk in tensor.chunks}
    return pickle.dumps(Metadata(described, None, stored, StorageMeta(), CURRENT_DCP_VERSION))


def _location(chunk: Chunk) -> _StorageInfo:
    return _StorageInfo(chunk.file, chunk.start, chunk.length)

"""Sharded tensors to files and back, in Megatron's distributed format, whatever layout reads them.

Writing has two halves, so that training can go on between them: `hold_shards` copies to host memory what this
rank is the main replica of; `write_shards` puts it into one file a rank. Reading copies from every stored
chunk what overlaps with the wanted shard. Megatron's own `dist_checkpointing.load` reads these folders, but
we do not use it: it unpickles `.metadata`. Nor do we unpickle the tensors: of the archive torch.save makes,
only the raw bytes are read, and dtype and shape come from index.json.
"""

import io
import os
import zipfile
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from megatron.core.dist_checkpointing.dict_utils import dict_list_map_inplace, merge, nested_values
from megatron.core.dist_checkpointing.mapping import ShardedTensor, apply_factory_merges, is_main_replica
from megatron.core.dist_checkpointing.state_dict_utils import load_preprocess, save_preprocess
from megatron.core.dist_checkpointing.utils import extract_matching_values

from r1mega.config import UserError
from r1mega.training.checkpoint.files import FileRecord, HashedFile
from r1mega.training.checkpoint.index import INDEX, Chunk, ChunkRow, StoredTensor, read_index


@dataclass(frozen=True, slots=True)
class HostShard:
    """A copy in host memory of the box at `offset` of global tensor `key`. Its data has the box's shape."""

    key: str
    global_shape: tuple[int, ...]
    offset: tuple[int, ...]
    data: torch.Tensor


def hold_shards(sharded_state_dict: Mapping[str, Any], owned: bool = False) -> list[HostShard]:
    """Copies, made now, of the tensors that this rank is the main replica of.

    `owned` says that nobody else will ever write to these tensors, so that those on the host need no second
    copy.
    """
    tensors, _ = save_preprocess(dict(sharded_state_dict), validate_access_integrity=False)
    return [
        HostShard(
            tensor.key, tuple(tensor.global_shape), tuple(tensor.global_offset), _host_copy(tensor, owned)
        )
        for tensor in nested_values(tensors)
        if isinstance(tensor, ShardedTensor) and is_main_replica(tensor.replica_id)
    ]


def write_shards(
    folder: Path, rank: int, shards: Iterable[HostShard]
) -> tuple[list[ChunkRow], FileRecord, Chunk]:
    """Write this rank's file `__{rank}_0.distcp`. Returns its rows for the index, its record, and where in it
    the (empty) common state lies that Megatron's loader wants to find. Raises OSError."""
    name = f"__{rank}_0.distcp"
    file = HashedFile(folder / name)
    try:
        rows = []
        for shard in shards:
            start = file.tell()
            torch.save(shard.data, file)
            chunk = Chunk(shard.offset, tuple(shard.data.shape), name, start, file.tell() - start)
            rows.append(
                ChunkRow(shard.key, str(shard.data.dtype).removeprefix("torch."), shard.global_shape, chunk)
            )
        start = file.tell()
        torch.save([{}], file)
        common_state = Chunk((), (), name, start, file.tell() - start)
        return rows, file.finish(), common_state
    except BaseException:
        file.abandon()
        raise


class ShardReader:
    """Reads a folder of sharded tensors, any number of times; the index is parsed once."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._index = read_index(folder)

    def read(self, sharded_state_dict: Mapping[str, Any]) -> dict[str, Any]:
        """Fill the tensors of a sharded state dict. Returns the plain state dict (factories merged).

        Raises UserError, in one line, if a tensor is missing, has another shape, or cannot be read.
        """
        wanted, nonpersistent, factories = load_preprocess(dict(sharded_state_dict))
        wanted, _ = extract_matching_values(wanted, lambda value: isinstance(value, ShardedTensor))
        targets = [_target(self._folder, self._index, tensor) for tensor in nested_values(wanted)]
        _copy_chunks(self._folder, self._index, targets)
        dict_list_map_inplace(lambda tensor: tensor.data, wanted)
        merge(wanted, nonpersistent)
        return apply_factory_merges(wanted, factories)


@dataclass(frozen=True, slots=True)
class _Target:
    """What is to be filled: the box at `offset` of tensor `key`; `data` has the box's full shape."""

    key: str
    offset: tuple[int, ...]
    data: torch.Tensor


def _host_copy(tensor: ShardedTensor, owned: bool) -> torch.Tensor:
    data = tensor.data.detach()
    # torch.save writes the whole storage, so a view of a larger one needs a copy too
    exact = data.is_contiguous() and data.untyped_storage().nbytes() == data.numel() * data.itemsize
    if not (owned and exact and data.device.type == "cpu"):
        data = data.to("cpu", copy=True, memory_format=torch.contiguous_format)
    return data.view(_box_shape(tensor))


def _box_shape(tensor: ShardedTensor) -> tuple[int, ...]:
    return (1,) * tensor.prepend_axis_num + tuple(tensor.local_shape)


def _target(folder: Path, index: Mapping[str, StoredTensor], tensor: ShardedTensor) -> _Target:
    stored = index.get(tensor.key)
    if stored is None:
        raise UserError(
            f"{folder / INDEX}: has no tensor {tensor.key}; is this a checkpoint of another model?"
        )
    if stored.shape != tuple(tensor.global_shape):
        raise UserError(
            f"{folder / INDEX}: {tensor.key} has shape {list(stored.shape)}, the recipe's model wants "
            f"{list(tensor.global_shape)}"
        )
    if tensor.data is None:
        tensor.init_data(torch.device("cpu"))
    tensor.data = tensor.data.detach()
    return _Target(tensor.key, tuple(tensor.global_offset), tensor.data.view(_box_shape(tensor)))


def _copy_chunks(folder: Path, index: Mapping[str, StoredTensor], targets: Iterable[_Target]) -> None:
    """Copy all overlaps, reading every chunk once, file by file and in the order of the file."""
    jobs: dict[str, dict[tuple[str, Chunk], list[_Target]]] = defaultdict(lambda: defaultdict(list))
    for target in targets:
        for chunk in index[target.key].chunks:
            if _overlap(chunk, target) is not None:
                jobs[chunk.file][target.key, chunk].append(target)
    for file in sorted(jobs):
        path = folder / file
        try:
            with path.open("rb") as stream:
                for key, chunk in sorted(jobs[file], key=lambda job: job[1].start):
                    data = _read_chunk(stream, chunk, index[key].torch_dtype)
                    for target in jobs[file][key, chunk]:
                        source, sink = _overlap(chunk, target)
                        target.data[sink].copy_(data[source])
        except OSError as error:
            raise UserError(f"{path}: {error.strerror or error}") from None
        except (ValueError, RuntimeError, zipfile.BadZipFile, NotImplementedError) as error:
            raise UserError(
                f"{path}: no tensors that can be read: {' '.join(str(error).split())[:160]}"
            ) from None


def _overlap(chunk: Chunk, target: _Target) -> tuple[tuple[slice, ...], tuple[slice, ...]] | None:
    """Where chunk and target meet, in the coordinates of each; None if they do not."""
    source, sink = [], []
    for stored, stored_size, want, want_size in zip(
        chunk.offset, chunk.shape, target.offset, target.data.shape, strict=True
    ):
        low, high = max(stored, want), min(stored + stored_size, want + want_size)
        if low >= high:
            return None
        source.append(slice(low - stored, high - stored))
        sink.append(slice(low - want, high - want))
    return tuple(source), tuple(sink)


def _read_chunk(stream: Any, chunk: Chunk, dtype: torch.dtype) -> torch.Tensor:
    """The tensor that torch.save wrote at `chunk`, from the raw bytes of its one storage; its pickle stays
    unread."""
    size = os.fstat(stream.fileno()).st_size
    if chunk.start + chunk.length > size:
        raise ValueError(f"bytes {chunk.start} to {chunk.start + chunk.length} of a file of {size} bytes")
    stream.seek(chunk.start)
    with zipfile.ZipFile(io.BytesIO(stream.read(chunk.length))) as archive:
        names = [name for name in archive.namelist() if name.split("/")[1:] == ["data", "0"]]
        if len(names) != 1:
            raise ValueError(f"bytes {chunk.start} to {chunk.start + chunk.length} hold no saved tensor")
        info = archive.getinfo(names[0])
        expected = torch.Size(chunk.shape).numel() * dtype.itemsize
        if info.file_size != expected or info.compress_type != zipfile.ZIP_STORED:
            raise ValueError(
                f"bytes {chunk.start} to {chunk.start + chunk.length} hold a tensor of {info.file_size} "
                f"bytes, not {expected}"
            )
        data = bytearray(archive.read(info))
    return (
        torch.frombuffer(data, dtype=dtype).view(chunk.shape)
        if data
        else torch.empty(chunk.shape, dtype=dtype)
    )

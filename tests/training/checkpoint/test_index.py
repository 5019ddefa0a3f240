"""The index of a folder: its chunks tile every tensor, and lie where the files have something."""

import time
from pathlib import Path

import pytest
import torch
from megatron.core.dist_checkpointing.mapping import ShardedTensor

from r1mega.config import UserError
from r1mega.training.checkpoint.index import INDEX, Chunk, ChunkRow, StoredTensor, index_bytes, merge_rows, read_index
from r1mega.training.checkpoint.shards import HostShard, ShardReader, write_shards

Box = tuple[tuple[int, ...], tuple[int, ...]]  # offset, shape

NO_TILINGS: dict[str, tuple[tuple[int, ...], list[Box]]] = {
    "an overlap that makes up for a hole": ((4, 4), [((0, 0), (2, 4)), ((1, 0), (2, 4))]),
    "likewise along the columns": ((2, 6), [((0, 0), (2, 3)), ((0, 2), (2, 3))]),
    "likewise across others": ((4, 4), [((0, 0), (3, 2)), ((0, 2), (1, 2)), ((1, 1), (3, 2)), ((3, 3), (1, 2))]),
    "twice the same": ((4,), [((0,), (2,)), ((0,), (2,))]),
    "a hole": ((4,), [((0,), (2,))]),
    "past the end": ((4,), [((0,), (2,)), ((3,), (2,))]),
    "before the beginning": ((4,), [((-1,), (2,)), ((2,), (2,))]),
    "too few dimensions": ((2, 2), [((0,), (4,))]),
}


def rows(shape: tuple[int, ...], boxes: list[Box]) -> list[ChunkRow]:
    return [ChunkRow("w", "float32", shape, Chunk(*box, "__0_0.distcp", 0, 100)) for box in boxes]


@pytest.mark.parametrize("name", NO_TILINGS)
def test_chunks_that_do_not_tile_their_tensor_are_refused_written_or_read(tmp_path: Path, name: str):
    shape, boxes = NO_TILINGS[name]
    made = rows(shape, boxes)
    with pytest.raises(ValueError, match="w"):
        merge_rows(made)
    stored = StoredTensor("float32", shape, tuple(row.chunk for row in made))
    (tmp_path / INDEX).write_bytes(index_bytes({"w": stored}))
    with pytest.raises(UserError, match="not an index of tensors"):
        read_index(tmp_path)


def test_boxes_of_all_kinds_that_tile_a_tensor_are_taken():
    irregular = [((0, 0), (3, 2)), ((0, 2), (1, 2)), ((1, 2), (3, 2)), ((3, 0), (1, 2))]
    assert len(merge_rows(rows((4, 4), irregular))["w"].chunks) == 4
    assert merge_rows(rows((), [((), ())])) and merge_rows(rows((0, 4), [((0, 0), (0, 4))]))


def test_checking_the_experts_of_a_large_model_takes_no_time():
    boxes = [((expert, part, 0), (1, 1, 8)) for expert in range(256) for part in range(16)]
    begun = time.monotonic()
    merge_rows(rows((256, 16, 8), boxes))
    assert time.monotonic() - begun < 1


@pytest.mark.parametrize("change", [{"start": 10**30}, {"length": 10**30}, {"start": 10**6}])
def test_a_place_outside_of_its_file_is_refused_in_one_line(tmp_path: Path, change: dict[str, int]):
    data = torch.ones(4)
    (row,), _, _ = write_shards(tmp_path, 0, [HostShard("w", (4,), (0,), data)])
    place = {"start": row.chunk.start, "length": row.chunk.length} | change
    chunk = Chunk(row.chunk.offset, row.chunk.shape, row.chunk.file, **place)
    (tmp_path / INDEX).write_bytes(index_bytes({"w": StoredTensor("float32", (4,), (chunk,))}))
    wanted = ShardedTensor("w", torch.empty(4), torch.float32, (4,), (4,), (0,), None)
    with pytest.raises(UserError, match=r"__0_0\.distcp: .* of a file of \d+ bytes") as refused:
        ShardReader(tmp_path).read({"w": wanted})
    assert "\n" not in str(refused.value)

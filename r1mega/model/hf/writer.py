"""Writing a folder of safetensors files of limited size, a tensor at a time."""

import json
import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import BinaryIO

import torch

from r1mega.model.hf.folder import INDEX_FILE, SINGLE_FILE
from r1mega.model.names import NameTable
from r1mega.model.weight import Shape

CODES = {torch.float32: "F32", torch.bfloat16: "BF16"}
ALIGNMENT = 8  # of the first tensor; within a file, tensors of wide types come first, so that all are aligned

TensorPlan = Mapping[str, tuple[torch.dtype, Shape]]


def plan_tensors(table: NameTable, dtype: torch.dtype) -> dict[str, tuple[torch.dtype, Shape]]:
    """Every tensor of a folder, the MTP layer's copies of embedding and head among them: name -> (dtype, shape)."""
    plan: dict[str, tuple[torch.dtype, Shape]] = {}
    for weight in table.weights:
        for name, shape in weight.files.items():
            plan[name] = (torch.float32 if weight.is_selection_bias else dtype, shape)
    return plan | {copy: plan[original] for copy, original in table.written_copies.items()}


class _File:
    """One safetensors file: eight bytes of header length, a JSON header, the tensors' bytes end to end."""

    def __init__(self, path: Path, tensors: TensorPlan) -> None:
        self.path = path
        widest_first = sorted(tensors, key=lambda name: -tensors[name][0].itemsize)
        header: dict[str, object] = {"__metadata__": {"format": "pt"}}
        self._place: dict[str, tuple[int, int]] = {}
        end = 0
        for name in widest_first:
            dtype, shape = tensors[name]
            begin, end = end, end + _size(dtype, shape)
            self._place[name] = (begin, end)
            header[name] = {"dtype": CODES[dtype], "shape": list(shape), "data_offsets": [begin, end]}
        encoded = json.dumps(header, separators=(",", ":")).encode()
        encoded += b" " * (-len(encoded) % ALIGNMENT)
        self._head = len(encoded).to_bytes(8, "little") + encoded
        self._missing = set(tensors)
        self._handle: BinaryIO | None = None

    def write(self, name: str, tensor: torch.Tensor) -> None:
        if self._handle is None:
            self._handle = self.path.open("wb")
            self._handle.write(self._head)
        begin, end = self._place[name]
        flat = tensor.contiguous().view(-1).view(torch.uint8).numpy()
        if len(flat) != end - begin:
            raise ValueError(f"{name}: {len(flat)} bytes, planned {end - begin}")
        self._handle.seek(len(self._head) + begin)
        self._handle.write(flat.data)
        self._missing.discard(name)
        if not self._missing:
            self._handle.flush()
            os.fsync(self._handle.fileno())
            self._handle.close()

    def check_complete(self) -> None:
        if self._missing:
            raise ValueError(f"{self.path}: tensor {min(self._missing)} was never written")


def _size(dtype: torch.dtype, shape: Shape) -> int:
    return dtype.itemsize * math.prod(shape)


class FolderWriter:
    """Write planned tensors, in any order, into files of at most `max_file_bytes` each (a larger tensor has a file of
    its own), named as transformers names them. Holds no tensor in memory."""

    def __init__(self, path: Path, plan: TensorPlan, max_file_bytes: int) -> None:
        self._path = path
        files: list[dict[str, tuple[torch.dtype, Shape]]] = [{}]
        room = max_file_bytes
        for name, (dtype, shape) in plan.items():
            size = _size(dtype, shape)
            if size > room and files[-1]:
                files.append({})
                room = max_file_bytes
            files[-1][name] = (dtype, shape)
            room -= size
        if len(files) == 1:
            names = [SINGLE_FILE]
        else:
            names = [f"model-{index:05}-of-{len(files):05}.safetensors" for index in range(1, len(files) + 1)]
        self._files = [_File(path / name, tensors) for name, tensors in zip(names, files, strict=True)]
        self._file_of = {name: file for file, tensors in zip(self._files, files, strict=True) for name in tensors}
        self._dtypes = {name: dtype for name, (dtype, _) in plan.items()}
        self._total = sum(_size(dtype, shape) for dtype, shape in plan.values())

    def write(self, name: str, tensor: torch.Tensor) -> None:
        """Write one planned tensor, converted to its planned dtype. Raises KeyError for a name not planned."""
        self._file_of[name].write(name, tensor.to(self._dtypes[name]))

    def finish(self) -> None:
        """Write the index. Raises ValueError if a planned tensor was never written."""
        for file in self._files:
            file.check_complete()
        if len(self._files) == 1:
            return
        weight_map = {name: file.path.name for name, file in self._file_of.items()}
        index = {"metadata": {"total_size": self._total}, "weight_map": weight_map}
        (self._path / INDEX_FILE).write_text(json.dumps(index, indent=2) + "\n", encoding="utf-8")

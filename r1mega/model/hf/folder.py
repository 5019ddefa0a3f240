"""Reading a folder of safetensors files: lazily, by rows, and checked before use."""

import json
import re
from collections.abc import Iterable
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open

from r1mega.config import UserError
from r1mega.model.names import NameTable
from r1mega.model.weight import Shape

SINGLE_FILE = "model.safetensors"
INDEX_FILE = "model.safetensors.index.json"
SCALE = "_scale_inv"
"""DeepSeek's FP8 files hold, for "x.weight" in E4M3, fp32 "x.weight_scale_inv": what each 128 x 128 block is
multiplied with."""
SCALE_BLOCK = 128
FLOAT_DTYPES = ("F32", "BF16", "F16", "F8_E4M3")


class HfFolder:
    """The tensors in a folder's safetensors files. Headers are read at once, data only when asked for.

    Raises UserError, naming file and tensor, if a file is missing or damaged.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        weight_map = self._weight_map()
        files = sorted(set(weight_map.values()))
        self._files = {file: self._open(path / file) for file in files}
        contents = {file: set(handle.keys()) for file, handle in self._files.items()}
        for name, file in weight_map.items():
            if name not in contents[file]:
                raise UserError(f"{path / file}: tensor {name} is missing, though {INDEX_FILE} says it is there; "
                                "download or export that file again")
        self._file_of = {name: file for file, names in contents.items() for name in names}

    def _weight_map(self) -> dict[str, str]:
        """Tensor name -> file name, from the index; every tensor's own where there is one file without index."""
        index = self.path / INDEX_FILE
        if not index.exists():
            if not (self.path / SINGLE_FILE).exists():
                raise UserError(f"{self.path}: holds neither {INDEX_FILE} nor {SINGLE_FILE}; give a folder with "
                                "safetensors weights")
            with self._open(self.path / SINGLE_FILE) as handle:
                return dict.fromkeys(handle.keys(), SINGLE_FILE)
        try:
            weight_map = json.loads(index.read_text(encoding="utf-8"))["weight_map"]
            return {str(name): str(file) for name, file in weight_map.items()}
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise UserError(f"{index}: not a safetensors index ({error!r}); it needs an object weight_map of tensor "
                            "name to file name") from None

    @staticmethod
    def _open(file: Path) -> safe_open:
        try:
            return safe_open(file, framework="pt")
        except FileNotFoundError:
            raise UserError(f"{file}: no such file, though {INDEX_FILE} names it; download it again") from None
        except (SafetensorError, OSError) as error:
            raise UserError(f"{file}: damaged or cut off ({error}); download or export it again") from None

    @property
    def names(self) -> Iterable[str]:
        return self._file_of.keys()

    def file_of(self, name: str) -> Path:
        return self.path / self._file_of[name]

    def shape(self, name: str) -> Shape:
        return tuple(self._slice(name).get_shape())

    def dtype(self, name: str) -> str:
        """As safetensors writes it: "F32", "BF16", "F8_E4M3"..."""
        return self._slice(name).get_dtype()

    def torch_dtype(self, name: str) -> torch.dtype:
        """What `read` is to be kept in: bf16 for FP8, which DeepSeek expands so too, and fp32 for fp16."""
        return torch.bfloat16 if self.dtype(name) in ("BF16", "F8_E4M3") else torch.float32

    def _slice(self, name: str):
        return self._files[self._file_of[name]].get_slice(name)

    def read(self, name: str, begin: int = 0, end: int | None = None) -> torch.Tensor:
        """Rows begin..end of a tensor, and nothing else of the file.

        FP8 comes out as fp32, multiplied with its block scales; everything else in the file's dtype.
        """
        whole = self._slice(name)
        part = whole[begin:end]
        if whole.get_dtype() != "F8_E4M3":
            return part
        rows, columns = (torch.arange(size) // SCALE_BLOCK for size in whole.get_shape())
        scale = self._slice(name + SCALE)[:]
        return part.float() * scale[rows[begin:end]][:, columns]

    def check(self, table: NameTable) -> None:
        """That the folder holds exactly the tensors of the model, in their shapes; copies and scales may be there.

        Tensors of layers after the last are passed over if the model has no MTP layer. Raises UserError.
        """
        for name, shape in table.file_shapes().items():
            if name not in self._file_of:
                raise UserError(f"{self.path}: tensor {name} is missing{self._hint(name, table)}")
            self._check_tensor(name, shape)
        known = table.file_shapes().keys() | table.copies.keys()
        for name, original in table.copies.items():
            if name in self._file_of:
                self._check_tensor(name, self.shape(original))
        for name in self.names:
            base = name.removesuffix(SCALE)
            if base not in known and not self._is_unused_mtp(name, table):
                raise UserError(f"{self.file_of(name)}: unknown tensor {name}; config.json describes a model without "
                                "it")

    def _check_tensor(self, name: str, shape: Shape) -> None:
        if self.shape(name) != shape:
            raise UserError(f"{self.file_of(name)}: tensor {name} has shape {list(self.shape(name))}; config.json "
                            f"makes it {list(shape)}")
        if self.dtype(name) not in FLOAT_DTYPES:
            raise UserError(f"{self.file_of(name)}: tensor {name} is {self.dtype(name)}; legal: "
                            f"{', '.join(FLOAT_DTYPES)}")
        if self.dtype(name) == "F8_E4M3":
            self._check_scale(name, shape)

    def _check_scale(self, name: str, shape: Shape) -> None:
        scale = name + SCALE
        blocks = tuple(-(-size // SCALE_BLOCK) for size in shape)
        if len(shape) != 2:
            raise UserError(f"{self.file_of(name)}: tensor {name} has FP8 shape {list(shape)}; only matrices can be")
        if scale not in self._file_of:
            raise UserError(f"{self.file_of(name)}: tensor {name} is FP8, but {scale} is missing")
        if self.shape(scale) != blocks:
            raise UserError(f"{self.file_of(scale)}: tensor {scale} has shape {list(self.shape(scale))}; {name} needs "
                            f"{list(blocks)}, one scale a block of {SCALE_BLOCK} x {SCALE_BLOCK}")

    def _hint(self, name: str, table: NameTable) -> str:
        last = f"model.layers.{table.model.num_layers}."
        if name.startswith(last) and not any(other.startswith(last) for other in self.names):
            return (": there is no MTP layer at all (transformers does not save it); import without it, or set "
                    "num_nextn_predict_layers=0 in config.json")
        return "; config.json says that the model has it"

    @staticmethod
    def _is_unused_mtp(name: str, table: NameTable) -> bool:
        layer = re.match(r"model\.layers\.(\d+)\.", name)
        return layer is not None and table.model.num_mtp_layers == 0 and int(layer[1]) >= table.model.num_layers

    def check_copies(self, table: NameTable, rows_at_once: int = 4096) -> None:
        """That copies (embedding and head under the MTP layer, the head of tied embeddings) equal their originals,
        since Megatron shares them. Raises UserError. Reads a piece at a time."""
        for copy, original in table.copies.items():
            if copy not in self._file_of:
                continue
            for begin in range(0, self.shape(copy)[0], rows_at_once):
                ours, theirs = (self.read(name, begin, begin + rows_at_once) for name in (original, copy))
                if not torch.equal(ours, theirs):
                    why = ("tie_word_embeddings says they are one" if table.model.tied_embeddings
                           else "the MTP layer shares it with the trunk")
                    raise UserError(f"{self.file_of(copy)}: tensor {copy} differs from {original}; {why}, so they must "
                                    "be equal")

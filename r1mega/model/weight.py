"""One row of the table of weight names. Torch-free."""

from collections.abc import Iterator
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

Shape = tuple[int, ...]

EMBEDDING = "embedding.word_embeddings.weight"
HEAD = "output_layer.weight"


@dataclass(frozen=True)
class Weight:
    """One parameter (or the selection bias, a buffer) of the whole model."""

    megatron: str
    files: MappingProxyType[str, Shape]
    """Tensors of the files that it is made of, stacked along the rows in this order. Shapes as in the files."""
    num_groups: int = 1
    """Every part is cut into so many equal blocks of rows, and they are stacked group by group: of the first group a
    block of each part, then of the second. (Megatron keeps the queries of a key head beside it.)"""

    @property
    def file_rows(self) -> int:
        """Rows of all parts together, without padding."""
        return sum(shape[0] for shape in self.files.values())

    @property
    def is_vocabulary(self) -> bool:
        """Whether the rows are tokens, so that Megatron's side has padding rows at the end."""
        return self.megatron in (EMBEDDING, HEAD)

    @property
    def is_selection_bias(self) -> bool:
        """Always fp32, in the files and in Megatron."""
        return self.megatron.endswith("router.expert_bias")

    def parts(self, data: "Tensor") -> Iterator[tuple[str, "Tensor"]]:
        """Where each tensor of the files lies in Megatron's, [rows, ...]: its name and a view [groups, rows, ...].
        Padding rows are in none."""
        groups = data[: self.file_rows].unflatten(0, (self.num_groups, -1))
        begin = 0
        for name, shape in self.files.items():
            end = begin + shape[0] // self.num_groups
            yield name, groups[:, begin:end]
            begin = end


def weight_of(megatron: str, files: dict[str, Shape], num_groups: int = 1) -> Weight:
    return Weight(megatron, MappingProxyType(files), num_groups)


def gated_ffn(ours: str, theirs: str, hidden: int, width: int) -> list[Weight]:
    """fc1 is the gate above the up projection."""
    return [
        weight_of(f"{ours}.linear_fc1.weight", {f"{theirs}.gate_proj.weight": (width, hidden),
                                              f"{theirs}.up_proj.weight": (width, hidden)}),
        weight_of(f"{ours}.linear_fc2.weight", {f"{theirs}.down_proj.weight": (hidden, width)}),
    ]


def under(ours: str, theirs: str, weights: list[Weight]) -> Iterator[Weight]:
    """The same weights with a prefix to both names."""
    for weight in weights:
        files = {theirs + name: shape for name, shape in weight.files.items()}
        yield weight_of(ours + weight.megatron, files, weight.num_groups)

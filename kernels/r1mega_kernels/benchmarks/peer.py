"""What a peer is: somebody's way (ours among them) of doing one of the three operations that are compared.

    logits   -log p of T targets from logits [T, V], and its gradient
    linear   the same from hidden states [T, H] and weight [V, H]
    grpo     the GRPO loss of T tokens from logits [T, V], and its gradient

Each family of peers is one file in peers/, and the only place that knows the family's functions.
"""

from collections.abc import Callable
from dataclasses import dataclass
from importlib import metadata
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from r1mega_kernels.benchmarks.problem import Problem

Operation = Literal["logits", "linear", "grpo"]


class Result(NamedTuple):
    """What a forward pass gives."""

    loss: Tensor  # [T], or [] if the peer can only add up
    entropy: Tensor | None  # [T]
    gradients: Callable[[], tuple[Tensor, ...]]
    """The backward pass, with an upstream gradient of 1 for each token: those of the problem's leaves, in order."""


class Collective(NamedTuple):
    """One message between tensor-parallel ranks; bytes for each token, of each rank."""

    kind: Literal["all-reduce", "all-gather"]
    bytes_a_token: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Peer:
    name: str
    package: str
    operation: Operation
    computes: str
    """For the reader of the table: what comes out beside the gradient, and what the peer cannot do."""
    load: Callable[[torch.device], Callable[[Problem], Result]]
    """Imports the package (ImportError if a part of it is missing) and hands out the forward pass."""
    ours: bool = False
    needs_gpu: bool = True
    overwrites: bool = False
    """The gradient takes the memory of the logits, which are written anew before each repetition."""
    gradient_in_forward: bool = False
    collectives: tuple[Collective, ...] | None = None
    """What it sends where ranks hold slices of the vocabulary; None: it has no such form."""


def installed_version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def by_autograd(loss: Tensor, problem: Problem, entropy: Tensor | None = None, ones: Tensor | None = None) -> Result:
    """The result whose backward pass is autograd's. ones: the upstream gradient, if `loss` is not [T]."""
    upstream = (problem.ones_T if loss.ndim else problem.one) if ones is None else ones
    return Result(loss, entropy, lambda: torch.autograd.grad(loss, problem.leaves, upstream))

"""What a run is to measure, and in which order."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

from r1mega_kernels.benchmarks.peer import Operation

TOKENS = (256, 512, 1024, 2048, 4096, 8192, 16384, 32768)
VOCABS = (129280, 16160)
HIDDEN = 7168
HEADLINE = 8192
"""The number of tokens that the acceptance lines are about; measured first."""
TINY_TOKENS, TINY_VOCABS, TINY_HIDDEN = (8, 16, 32), (512, 64), 64
"""For a rehearsal on a CPU."""


class Shape(NamedTuple):
    operation: Operation
    tokens: int
    vocab: int
    hidden: int  # 0 where there is none


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    operations: tuple[Operation, ...]
    tokens: tuple[int, ...] = TOKENS
    vocabs: tuple[int, ...] = VOCABS
    hidden: int = HIDDEN
    peers: tuple[str, ...] = ()
    """Words; a peer whose name has one of them takes part. None: all."""
    device: str = "cuda"
    seed: int = 0
    budget_bytes: int = 1 << 30
    """What ours may take for logits at a time in a fused linear."""
    tp: int = 8
    latency_us: float = 12.0
    gigabytes_per_s: float = 300.0
    """Of the collectives, which are modelled: one GPU has none."""
    seconds: float = 0.25
    """How long one measurement is repeated, about."""
    minutes: float = 9.0

    def shapes(self) -> Iterator[Shape]:
        """The headline of every operation first, then outwards from it."""
        shapes = [
            Shape(operation, tokens, vocab, self.hidden if operation == "linear" else 0)
            for tokens in self.tokens for operation in ("logits", "linear", "grpo") if operation in self.operations
            for vocab in (self.vocabs if operation != "grpo" else self.vocabs[:1])
        ]
        headline = HEADLINE if HEADLINE in self.tokens else max(self.tokens)
        return iter(sorted(shapes, key=lambda shape: abs(shape.tokens.bit_length() - headline.bit_length())))

    def takes_part(self, name: str) -> bool:
        return not self.peers or any(word.lower() in name.lower() for word in self.peers)

    def is_shard(self, vocab: int) -> bool:
        """Whether this is a slice of another of the vocabularies, on one of `tp` ranks."""
        return vocab * self.tp in self.vocabs

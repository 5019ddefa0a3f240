"""Packed attention: a token sees its own sequence and nothing else, however the pack is laid out."""

from types import SimpleNamespace

import torch

from r1mega.model.attention import CausalAttention
from r1mega.model.pack import Pack


def attend(lengths: list[int], qkv: torch.Tensor) -> torch.Tensor:
    attention = CausalAttention(SimpleNamespace(sequence_parallel=False), softmax_scale=0.5)
    pack = Pack.of(torch.tensor([0, *lengths]).cumsum(0).int(), len(lengths))
    return attention(*qkv, attention_mask=None, packed_seq_params=pack)


def by_hand(lengths: list[int], qkv: torch.Tensor) -> torch.Tensor:
    """Row by row, in fp64."""
    q, k, v = qkv.double()
    out, begin = torch.zeros_like(v), 0
    for length in lengths:
        for t in range(begin, begin + length):
            for h in range(q.shape[1]):
                scores = 0.5 * (k[begin:t + 1, h] @ q[t, h])
                out[t, h] = torch.softmax(scores, 0) @ v[begin:t + 1, h]
        begin += length
    return out.float()


def test_sequences_of_like_and_of_unlike_lengths():
    for lengths, padded in (([5, 4, 5], True), ([20, 1, 2, 3], False), ([7], True)):
        qkv = torch.randn(3, sum(lengths), 2, 8, generator=torch.Generator().manual_seed(0))
        assert (Pack.of(torch.tensor([0, *lengths]).cumsum(0).int(), 1).rows is not None) == padded
        torch.testing.assert_close(attend(lengths, qkv), by_hand(lengths, qkv), rtol=1e-5, atol=1e-5)

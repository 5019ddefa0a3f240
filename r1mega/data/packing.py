"""Sequences laid end to end for the trainer.

Shapes: T slots of a pack, S sequences in it.
"""

from collections.abc import Sequence

import torch

from r1mega.data.pack_plan import plan_packs, plan_replicas
from r1mega.record import PackedBatch, TrainSample


def pack(samples: Sequence[TrainSample], max_tokens: int, multiple_of: int, pad_id: int) -> list[PackedBatch]:
    """Best-fit-decreasing packs of at most `max_tokens` tokens, each padded to a multiple of `multiple_of`.

    A longer sample has a pack of its own. The same samples give the same packs; within one, sequences keep
    the order of `samples`. `multiple_of` is what tensor and context parallelism must divide. Raises
    ValueError when samples differ in the names of their arrays, or one is empty or ragged.
    """
    _check(samples)
    plan = plan_packs([len(sample.token_ids) for sample in samples], max_tokens)
    return [_build([samples[i] for i in indices], multiple_of, pad_id) for indices in plan]


def pack_for_replicas(samples: Sequence[TrainSample], max_tokens: int, multiple_of: int, pad_id: int,
                      num_replicas: int, replica: int) -> list[PackedBatch]:
    """`pack`, dealt to data-parallel replicas: as many packs on each, with near-equal token counts.

    All are planned, from lengths alone, but only those of `replica` are built. Where there are too few samples, packs
    without a sequence fill up (see `empty_pack`).
    """
    return pack_units_for_replicas(
        [[sample] for sample in samples], max_tokens, multiple_of, pad_id, num_replicas, replica)


def pack_units_for_replicas(units: Sequence[Sequence[TrainSample]], max_tokens: int, multiple_of: int, pad_id: int,
                            num_replicas: int, replica: int) -> list[PackedBatch]:
    """As `pack_for_replicas`, of units whose samples stay in one pack, one after the other (pairs, say)."""
    samples = [sample for unit in units for sample in unit]
    _check(samples)
    plan = plan_replicas([sum(len(sample.token_ids) for sample in unit) for unit in units], max_tokens, num_replicas)
    return [_build([sample for i in indices for sample in units[i]], multiple_of, pad_id) if indices
            else empty_pack(multiple_of, pad_id, samples) for indices in plan[replica]]


def empty_pack(multiple_of: int, pad_id: int, like: Sequence[TrainSample] = ()) -> PackedBatch:
    """A pack of padding only (T = `multiple_of`, S = 0) with the arrays that the samples of `like` have.

    It trains on nothing, and lets a replica without samples take part in the step's collectives.
    """
    T = multiple_of
    first = like[0] if like else TrainSample((), ())
    return PackedBatch(
        token_ids=torch.full((T,), pad_id, dtype=torch.int64),
        targets=torch.full((T,), pad_id, dtype=torch.int64),
        loss_mask=torch.zeros(T),
        cu_seqlens=torch.tensor([0, T], dtype=torch.int32),
        sequence_ids=torch.full((T,), -1, dtype=torch.int64),
        num_sequences=0,
        per_token={name: torch.zeros(T) for name in first.per_token},
        per_sample={name: torch.zeros(0) for name in first.per_sample},
    )


def _build(samples: Sequence[TrainSample], multiple_of: int, pad_id: int) -> PackedBatch:
    lengths = [len(sample.token_ids) for sample in samples]
    used = sum(lengths)
    T = -(-used // multiple_of) * multiple_of
    ends = [0]
    for length in lengths:
        ends.append(ends[-1] + length)
    if used < T:
        ends.append(T)
    sequence_ids = torch.full((T,), -1, dtype=torch.int64)
    sequence_ids[:used] = torch.repeat_interleave(torch.arange(len(samples)), torch.tensor(lengths))
    return PackedBatch(
        token_ids=_lay([sample.token_ids for sample in samples], T, pad_id, torch.int64),
        targets=_lay([_shift(sample.token_ids, pad_id) for sample in samples], T, pad_id, torch.int64),
        loss_mask=_lay([_shift(sample.loss_mask, 0) for sample in samples], T, 0, torch.float32),
        cu_seqlens=torch.tensor(ends, dtype=torch.int32),
        sequence_ids=sequence_ids,
        num_sequences=len(samples),
        per_token={
            name: _lay([_shift(sample.per_token[name], 0.0) for sample in samples], T, 0.0, torch.float32)
            for name in samples[0].per_token
        },
        per_sample={
            name: torch.tensor([sample.per_sample[name] for sample in samples], dtype=torch.float32)
            for name in samples[0].per_sample
        },
    )


def _shift(values: Sequence[float], last: float) -> tuple[float, ...]:
    """Entry t becomes that of token t + 1; the last token predicts nothing."""
    return (*values[1:], last)


def _lay(rows: Sequence[Sequence[float]], T: int, fill: float, dtype: torch.dtype) -> torch.Tensor:
    """[T]: the rows end to end, then `fill`."""
    laid = [value for row in rows for value in row]
    return torch.tensor(laid + [fill] * (T - len(laid)), dtype=dtype)


def _check(samples: Sequence[TrainSample]) -> None:
    for number, sample in enumerate(samples):
        length = len(sample.token_ids)
        if not length:
            raise ValueError(f"sample {number} has no tokens")
        ragged = {
            name: len(values)
            for name, values in (("loss_mask", sample.loss_mask), *sample.per_token.items())
            if len(values) != length
        }
        if ragged:
            raise ValueError(f"sample {number} has {length} tokens but {ragged}: per-token arrays must be as "
                             "long")
        if (sample.per_token.keys(), sample.per_sample.keys()) != (
                samples[0].per_token.keys(), samples[0].per_sample.keys()):
            raise ValueError(f"sample {number} has arrays {sorted(sample.per_token)} and "
                             f"{sorted(sample.per_sample)}, sample 0 {sorted(samples[0].per_token)} and "
                             f"{sorted(samples[0].per_sample)}")

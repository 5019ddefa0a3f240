"""Samples to packs, for this rank."""

from collections.abc import Sequence
from dataclasses import replace

from r1mega.data import empty_pack, pack_units_for_replicas
from r1mega.parallel import Groups
from r1mega.record import PackedBatch, TrainSample


def replica_packs(
    samples: Sequence[TrainSample], max_tokens: int, pad_id: int, groups: Groups
) -> list[PackedBatch]:
    """This data-parallel replica's share of `samples` (every rank brings all of them), on this rank's device.

    Every replica gets the same number of packs, a multiple of what the interleaved schedule needs.
    """
    return replica_unit_packs([[sample] for sample in samples], max_tokens, pad_id, groups)


def replica_unit_packs(
    units: Sequence[Sequence[TrainSample]], max_tokens: int, pad_id: int, groups: Groups
) -> list[PackedBatch]:
    """As `replica_packs`, of units whose samples stay in one pack, one after the other."""
    layout = groups.layout
    mine = pack_units_for_replicas(units, max_tokens, layout.tensor_parallel, pad_id, groups.dp.size(), groups.dp_rank)
    if layout.virtual_stages > 1:
        missing = -len(mine) % layout.pipeline_parallel
        mine += [empty_pack(layout.tensor_parallel, pad_id, [unit[0] for unit in units])] * missing
    return [on_device(pack, groups) for pack in mine]


def on_device(pack: PackedBatch, groups: Groups) -> PackedBatch:
    """The same pack, its tensors on this rank's device."""
    device = groups.device
    return replace(
        pack, token_ids=pack.token_ids.to(device), targets=pack.targets.to(device),
        loss_mask=pack.loss_mask.to(device), cu_seqlens=pack.cu_seqlens.to(device),
        sequence_ids=pack.sequence_ids.to(device),
        per_token={name: tensor.to(device) for name, tensor in pack.per_token.items()},
        per_sample={name: tensor.to(device) for name, tensor in pack.per_sample.items()})

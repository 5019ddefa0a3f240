"""Work that rank 0 has, done by all data-parallel replicas, and brought back to it once."""

from collections.abc import Sequence

import torch
import torch.distributed as dist

from r1mega.parallel import Groups


def from_first[T](value: T) -> T:
    """Rank 0's value, on every rank. Collective."""
    if dist.get_world_size() == 1:
        return value
    box = [value]
    dist.broadcast_object_list(box, src=0)
    return box[0]


def anyone(wish: bool, groups: Groups) -> bool:
    """Whether any rank wishes it. Collective."""
    wishes = torch.tensor(float(wish), device=groups.device)
    dist.all_reduce(wishes, op=dist.ReduceOp.MAX)
    return bool(wishes)


def my_share[T](items: Sequence[T], groups: Groups) -> Sequence[T]:
    """This replica's part: whole stretches, of equal length but for the last."""
    share = -(-len(items) // groups.dp.size())
    return items[groups.dp_rank * share:(groups.dp_rank + 1) * share]


def to_first[T](mine: Sequence[T], groups: Groups) -> list[T]:
    """What the leaders of all replicas bring, in their order, on rank 0; nothing on others. Collective."""
    if groups.dp.size() == 1:
        return list(mine) if groups.rank == 0 else []
    gathered: list[Sequence[T]] | None = [[] for _ in range(groups.dp.size())] if groups.dp_rank == 0 else None
    dist.gather_object(mine, gathered, dst=dist.get_global_rank(groups.dp, 0), group=groups.dp)
    return [item for part in gathered for item in part] if groups.rank == 0 else []

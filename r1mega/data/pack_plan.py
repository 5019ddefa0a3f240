"""Which sequences share a pack, and which replica trains on it: arithmetic on lengths, without torch.

DeepSeek-R1's trainer sorts by length, packs by best fit into chunks of fixed size, and gives every
data-parallel rank the same number of chunks (arXiv 2501.12948, supplement, on the RL infrastructure).
"""

from bisect import bisect_left, insort
from collections.abc import Sequence


def plan_packs(lengths: Sequence[int], max_tokens: int) -> list[list[int]]:
    """Best-fit decreasing: packs of indices whose lengths sum to at most `max_tokens`.

    A longer sequence has a pack of its own. Depends on `lengths` alone; indices in a pack ascend, and packs
    are ordered by their first index.
    """
    packs: list[list[int]] = []
    # (Tokens left, pack), sorted: the best fit is the first with enough left
    gaps: list[tuple[int, int]] = []
    for index in sorted(range(len(lengths)), key=lambda i: (-lengths[i], i)):
        fit = bisect_left(gaps, (lengths[index], -1))
        if fit == len(gaps):
            left, pack = max(max_tokens - lengths[index], 0), len(packs)
            packs.append([index])
        else:
            left, pack = gaps.pop(fit)
            left -= lengths[index]
            packs[pack].append(index)
        if left:
            insort(gaps, (left, pack))
    return sorted(sorted(pack) for pack in packs)


def plan_replicas(lengths: Sequence[int], max_tokens: int, num_replicas: int) -> list[list[list[int]]]:
    """`plan_packs` dealt to replicas: replica -> its packs -> indices, as many packs on every replica.

    To make the number come out even, the fullest packs that hold several sequences are halved; only where
    none are left, empty packs fill up (at least one pack each, so that all replicas run the same
    collectives). Then the fullest pack left goes to the replica with the fewest tokens that still lacks
    packs.
    """
    packs = plan_packs(lengths, max_tokens)
    tokens = [sum(lengths[i] for i in pack) for pack in packs]
    while not packs or len(packs) % num_replicas:
        splittable = [p for p, pack in enumerate(packs) if len(pack) > 1]
        if not splittable:
            packs += [[] for _ in range(num_replicas - len(packs) % num_replicas)]
            break
        fullest = max(splittable, key=lambda p: (tokens[p], -p))
        halves = plan_packs_evenly([lengths[i] for i in packs[fullest]])
        packs[fullest:fullest + 1] = [[packs[fullest][i] for i in half] for half in halves]
        tokens = [sum(lengths[i] for i in pack) for pack in packs]
    replicas: list[list[list[int]]] = [[] for _ in range(num_replicas)]
    loads = [0] * num_replicas
    share = len(packs) // num_replicas
    for pack in sorted(packs, key=lambda pack: (-sum(lengths[i] for i in pack), pack)):
        open_replicas = [r for r in range(num_replicas) if len(replicas[r]) < share]
        chosen = min(open_replicas, key=lambda r: (loads[r], r))
        replicas[chosen].append(pack)
        loads[chosen] += sum(lengths[i] for i in pack)
    return replicas


def plan_packs_evenly(lengths: Sequence[int]) -> tuple[list[int], list[int]]:
    """Two non-empty halves of near-equal token counts: the longest first, each to the lighter half."""
    halves: tuple[list[int], list[int]] = ([], [])
    loads = [0, 0]
    for index in sorted(range(len(lengths)), key=lambda i: (-lengths[i], i)):
        lighter = 0 if loads[0] <= loads[1] and halves[1] or not halves[0] else 1
        halves[lighter].append(index)
        loads[lighter] += lengths[index]
    return sorted(halves[0]), sorted(halves[1])

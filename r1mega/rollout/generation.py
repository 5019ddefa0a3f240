"""The loop of one `Engine.generate` call: refill, step, retire."""

from collections.abc import Callable, Sequence

import torch
import torch.distributed as dist
from torch import Tensor

from r1mega.config import ModelConfig
from r1mega.parallel import Groups
from r1mega.record import Completion, SampleRequest
from r1mega.rollout.forward import CachedForward
from r1mega.rollout.sampler import VocabShard, sample
from r1mega.rollout.sampling import Sampling
from r1mega.rollout.slots import Slots

PREFILL_TOKENS = 16384  # of one prefill pass, padding included: bounds its activations
REFILL_SHARE = 8  # a prefill waits until an eighth of the slots is free (or no row is left), so that it pays


class Generation:
    """Rows, completions and what is still to do."""

    def __init__(self, forward: CachedForward, groups: Groups, config: ModelConfig,
                 requests: Sequence[SampleRequest], sampling: Sampling) -> None:
        self._forward, self._groups, self._requests, self._sampling = forward, groups, requests, sampling
        self._slots = Slots(forward.num_slots, sampling, groups.device)
        self._stop_ids = frozenset(sampling.stop_ids)
        columns = config.padded_vocab_size // groups.tp.size()
        self._shard = VocabShard(groups.tp_rank * columns, config.vocab_size,
                                 groups.tp if groups.tp.size() > 1 else None)
        self._completions: dict[int, Completion] = {}
        self._next_request = 0
        self._length = 1  # of the longest active row, its newest token included

    def run(self, on_progress: Callable[[int, int], None] | None) -> list[Completion]:
        """All completions, in the order of the requests."""
        total, reported = len(self._requests), 0
        while True:
            prefill, decode = self._agree(self._wants_prefill(), self._slots.num_active > 0)
            if prefill:
                self._prefill()
            elif decode:
                self._decode()
            else:
                return [self._completions[index] for index in range(total)]
            if on_progress is not None and len(self._completions) > reported:
                reported = len(self._completions)
                on_progress(reported, total)

    def _wants_prefill(self) -> bool:
        waiting, free = len(self._requests) - self._next_request, self._slots.num_free
        enough = min(waiting, max(1, self._slots.num_slots // REFILL_SHARE))
        return waiting > 0 and (free >= enough or self._slots.num_active == 0)

    def _agree(self, prefill: bool, decode: bool) -> tuple[bool, bool]:
        """What the next pass is: this replica's wish, or the world's where replicas must step together."""
        if not self._forward.in_step:
            return prefill, decode
        wishes = torch.tensor([prefill, decode], dtype=torch.int32, device=self._groups.device)
        dist.all_reduce(wishes, dist.ReduceOp.MAX)
        prefill, decode = wishes.tolist()
        return bool(prefill), bool(decode)

    def _prefill(self) -> None:
        """Start as many waiting requests as there are free rows; each different prompt is computed once."""
        device = self._groups.device
        admitted, prompts = self._admit()
        if not admitted:  # only keeps step with the other replicas
            one = torch.ones(1, dtype=torch.int64, device=device)
            self._forward.prefill(one[:, None] - 1, one, one[:0], 0)
            return
        longest = max(map(len, prompts))
        padded = torch.tensor([prompt + (0,) * (longest - len(prompt)) for prompt in prompts], device=device)
        lengths = torch.tensor([len(prompt) for prompt in prompts], device=device)
        requests = [self._requests[index] for index in admitted]
        sources = torch.tensor([prompts[request.prompt_ids] for request in requests], device=device)
        first_row = self._slots.num_active
        self._slots.add(admitted, [request.seed for request in requests],
                        [len(request.prompt_ids) for request in requests])
        logits = self._forward.prefill(padded, lengths, sources, first_row)
        self._sample(logits, first_row)

    def _admit(self) -> tuple[list[int], dict[tuple[int, ...], int]]:
        """The next requests in line that fit, and their different prompts in order of appearance."""
        admitted: list[int] = []
        prompts: dict[tuple[int, ...], int] = {}
        longest = 0
        while self._next_request < len(self._requests) and len(admitted) < self._slots.num_free:
            prompt = self._requests[self._next_request].prompt_ids
            longest = max(longest, len(prompt))
            if admitted and (len(prompts) + (prompt not in prompts)) * longest > PREFILL_TOKENS:
                break
            prompts.setdefault(prompt, len(prompts))
            admitted.append(self._next_request)
            self._next_request += 1
        return admitted, prompts

    def _decode(self) -> None:
        if self._slots.num_active == 0:  # only keeps step with the other replicas
            zero = torch.zeros(1, dtype=torch.int64, device=self._groups.device)
            self._forward.decode(zero, zero, 1)
            return
        logits = self._forward.decode(self._slots.tokens, self._slots.positions, self._length)
        self._sample(logits, 0)

    def _sample(self, logits: Tensor | None, first_row: int) -> None:
        """Give the rows from `first_row` on their next token, and retire those that are done.

        logits [n, W] on the last pipeline stage, None on the others.
        """
        slots = self._slots
        seeds, sampled = slots.seeds[first_row:], slots.sampled[first_row:]
        drawn = None if logits is None else sample(logits, seeds, sampled, self._sampling, self._shard)
        if self._groups.pp.size() > 1:
            drawn = self._from_last_stage(drawn, len(seeds))
        done, self._length = slots.record(first_row, *drawn)
        if done:
            self._completions.update(slots.take(done, self._stop_ids))
            self._forward.move_rows(*slots.release(done), self._length)

    def _from_last_stage(self, drawn: tuple[Tensor, Tensor] | None, rows: int) -> tuple[Tensor, Tensor]:
        """Tokens and log-probs of `rows` rows on every stage; `drawn` holds them on the last."""
        group = self._groups.pp
        both = torch.empty(2, rows, dtype=torch.float64, device=self._groups.device)  # exact for token ids
        if drawn is not None:
            both[0], both[1] = drawn
        dist.broadcast(both, dist.get_global_rank(group, group.size() - 1), group=group)
        return both[0].long(), both[1].float()

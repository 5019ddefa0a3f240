"""Rollouts on the very weights that train, in the process that trains them."""

from collections.abc import Callable, Sequence

import torch
import torch.distributed as dist
from torch import nn

from r1mega.config import ModelConfig, UserError
from r1mega.parallel import Groups
from r1mega.record import Completion, SampleRequest
from r1mega.rollout.experts import experts_fit
from r1mega.rollout.forward import CachedForward
from r1mega.rollout.generation import Generation
from r1mega.rollout.mode import sampling_mode
from r1mega.rollout.sampling import Sampling


class Engine:
    """Continuous batching over a fixed number of cache rows ("slots") in every data-parallel replica.

    `chunks` are the pipeline rank's GPTModels (one per virtual stage) with LatentAttention. `expert_bytes` is
    how much memory a rank may spend, during a call, on a copy of its layers' experts where they are spread over ranks.
    """

    def __init__(self, chunks: Sequence[nn.Module], groups: Groups, model_config: ModelConfig, slots: int, *,
                 expert_bytes: int = 2 << 30) -> None:
        self._chunks = [_unwrapped(chunk) for chunk in chunks]
        self._groups, self._config, self._num_slots = groups, model_config, slots
        self._expert_bytes = expert_bytes

    def generate(self, requests: Sequence[SampleRequest], sampling: Sampling,
                 on_progress: Callable[[int, int], None] | None = None) -> list[Completion]:
        """One completion per request, in their order. Collective over the whole world.

        Every data-parallel replica passes its own requests (0 or more); all ranks of a replica pass the same
        and get the same. A completion depends on its prompt, its seed, the sampling and the weights; not on
        the layout, the slots, or what else is in the batch (but for rounding, where two tokens are that close
        to a tie). `on_progress(done, total)` counts this replica's requests. Raises UserError on all ranks if
        any rank has an empty prompt or one that does not fit in `max_context` with its new tokens.
        """
        requests = list(requests)
        capacity = self._agree_on_capacity(requests, sampling)
        with sampling_mode(self._chunks):
            forward = CachedForward(
                self._chunks, self._groups, self._config, slots=max(1, min(self._num_slots, len(requests))),
                capacity=capacity, local_experts=self._experts_fit())
            return Generation(forward, self._groups, self._config, requests, sampling).run(on_progress)

    def _experts_fit(self) -> bool:
        element_size = next(self._chunks[0].parameters()).element_size()
        return experts_fit(self._config, self._groups, element_size, self._expert_bytes)

    def _agree_on_capacity(self, requests: list[SampleRequest], sampling: Sampling) -> int:
        """Cache positions that every request of this replica fits in."""
        lengths = [len(request.prompt_ids) for request in requests]
        longest, shortest = max(lengths, default=1), min(lengths, default=1)
        everywhere = torch.tensor([longest, -shortest], device=self._groups.device)
        if self._groups.world_size > 1:
            dist.all_reduce(everywhere, dist.ReduceOp.MAX)  # so that all ranks raise, or none
        limit = self._config.max_context - sampling.max_new_tokens
        if everywhere[0] > limit:
            raise UserError(
                f"a prompt of {int(everywhere[0])} tokens with rollout.max_new_tokens="
                f"{sampling.max_new_tokens} exceeds model.max_context={self._config.max_context}; legal are "
                f"prompts of at most {max(limit, 0)} tokens; shorten prompts (data.max_prompt_tokens) or "
                "lower rollout.max_new_tokens")
        if everywhere[1] > -1:
            raise UserError("a prompt has no tokens; at least one is needed to predict from")
        return longest + sampling.max_new_tokens


def _unwrapped(chunk: nn.Module) -> nn.Module:
    """The GPTModel inside Megatron's data-parallel and precision wrappers."""
    while not hasattr(chunk, "decoder"):
        chunk = chunk.module
    return chunk

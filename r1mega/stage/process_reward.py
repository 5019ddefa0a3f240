"""What a process reward model says of the steps of completions."""

from collections.abc import Sequence
from pathlib import Path

import torch.distributed as dist

from r1mega.config import UserError
from r1mega.data import Tokenizer
from r1mega.model import PolicySettings, add_scalar_head, build_policy
from r1mega.parallel import Groups
from r1mega.record import TrainSample
from r1mega.stage.preference_reward import sequence_rewards
from r1mega.training.checkpoint import load_model_folder, read_model_config

PACK_TOKENS = 8192


class ProcessReward:
    """A model of stage preference, kind = "pointwise", trained on labelled beginnings of completions (`r1mega steps`).

    Its score of a beginning, through the sigmoid, is how likely it thinks that a right answer can still come of it.
    """

    def __init__(self, folder: Path, tokenizer: Tokenizer, groups: Groups):
        """Raises UserError where it is no such model, or reads with other tokens than the policy writes."""
        if Tokenizer.load(folder / "tokenizer").digest() != tokenizer.digest():
            raise UserError(f"{folder}: reads with another tokenizer than the policy's; train it from the policy, or "
                            "from a model with the same tokenizer")
        self._groups, self._eos, self._pad = groups, tokenizer.eos_id, tokenizer.pad_id
        self._chunks = build_policy(read_model_config(folder), groups, PolicySettings())
        add_scalar_head(self._chunks, "pointwise")
        load_model_folder(folder, self._chunks, groups)
        for chunk in self._chunks:
            chunk.eval()

    def score(self, sequences: Sequence[tuple[int, ...]]) -> list[float]:
        """In (0, 1), of each sequence of token ids, prompt and beginning. Collective: every replica brings its own, 0
        or more of them."""
        parts: list[Sequence[tuple[int, ...]]] = [[] for _ in range(self._groups.dp.size())]
        dist.all_gather_object(parts, list(sequences), group=self._groups.dp)
        everything = [ids for part in parts for ids in part]
        if not everything:
            return []
        samples = [TrainSample((*ids, self._eos), bytes(len(ids) + 1), per_sample={"number": float(number)})
                   for number, ids in enumerate(everything)]
        found = sequence_rewards(self._chunks, samples, PACK_TOKENS, self._pad, self._groups)
        first = sum(len(part) for part in parts[:self._groups.dp_rank])
        return found[first:first + len(sequences)]

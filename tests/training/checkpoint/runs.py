"""A tiny run on real ranks, for the tests of checkpoints: build, train, and look at everything a checkpoint
holds.

The layouts are given as keyword arguments of LayoutConfig. Every step trains on the same four packs of fixed
random tokens, whichever replica they fall to.
"""

import hashlib
import tomllib
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from megatron.core import parallel_state

from r1mega.config import LayoutConfig, ModelConfig
from r1mega.config.training import OptimizerConfig, TrainConfig
from r1mega.model import PolicySettings, build_policy
from r1mega.parallel import start
from r1mega.record import PackedBatch
from r1mega.training.checkpoint import CheckpointStore, LoadTarget, Snapshot
from r1mega.training.learner import Learner
from tests.objectives import Nll

ROOT = Path(__file__).resolve().parents[3]
MODEL = ModelConfig.model_validate(
    tomllib.loads((ROOT / "configs/models/tiny.toml").read_text()) | {"vocab_size": 200}
)
SMALL = MODEL.model_copy(update={  # fewer and smaller tensors, for tests that read the files many times
    "num_layers": 2, "hidden_size": 32, "ffn_hidden_size": 32, "moe_ffn_hidden_size": 8,
    "num_attention_heads": 2, "q_lora_rank": 8, "kv_lora_rank": 8,
    "qk_nope_head_dim": 8, "qk_rope_head_dim": 8,
    "v_head_dim": 8, "vocab_size": 100})
NUM_PACKS, TOKENS = 4, 32


class Run:
    """A learner, a reference model, and what tests ask of them."""

    def __init__(
        self, layout: dict[str, int], precision: str = "fp32", seed: int = 0, model: ModelConfig = MODEL
    ):
        self.groups, self.model = start(LayoutConfig(**layout), seed), model
        torch.manual_seed(seed)
        train = TrainConfig(steps=10, precision=precision, micro_batch_tokens=TOKENS)
        self.settings = PolicySettings.of(train)
        chunks = build_policy(model, self.groups, self.settings, seed)
        self.learner = Learner(chunks, self.groups, OptimizerConfig(lr=1e-3), train)
        self.reference = build_policy(model, self.groups, self.settings, seed + 1)
        self.update = 0

    def leave(self) -> None:
        """Give up the layout's groups, so that another layout can be tried in the same processes."""
        parallel_state.destroy_model_parallel()

    def train(self, steps: int) -> list[tuple[float, float]]:
        """(loss, gradient norm) of each step."""
        results = []
        for _ in range(steps):
            self.update += 1
            result = self.learner.step(self._packs(self.update), Nll(NUM_PACKS * TOKENS), self.update, 10)
            assert result.applied
            results.append((result.loss, result.grad_norm))
        return results

    def snapshot(self, tokenizer_dir: Path | None = None, **state: Any) -> Snapshot:
        return Snapshot(
            self.learner.wrapped, self.model, self.learner.optimizer, {"reference": self.reference},
            {"update": self.update, **state}, tokenizer_dir)

    def target(self, seed: int = 0) -> LoadTarget:
        return LoadTarget(
            self.learner.wrapped, self.model, self.learner.optimizer, {"reference": self.reference}, seed)

    def resume(self, store: CheckpointStore, step: int | None = None) -> dict[str, Any]:
        """From the given checkpoint, or from the newest good one."""
        if step is None:
            step = store.latest()
        assert step is not None
        state = store.load(step, self.target())
        self.update = state["update"]
        return state

    def digest(self) -> str:
        """One hash of every bit this rank would train on with: weights, buffers, masters, moments, random
        state."""
        total = hashlib.sha256()
        for chunk in [*self.learner.chunks, *self.reference]:
            for name, value in sorted(chunk.state_dict().items()):
                if torch.is_tensor(value):
                    total.update(name.encode() + _bytes(value))
        for inner in self.learner.optimizer.chained_optimizers:
            for group in inner.optimizer.param_groups:
                for parameter in group["params"]:
                    state = inner.optimizer.state[parameter]
                    for value in (parameter, *(state[name] for name in sorted(state))):
                        total.update(_bytes(value))
        total.update(_bytes(torch.get_rng_state()))
        return total.hexdigest()

    def _packs(self, update: int) -> list[PackedBatch]:
        replicas, mine = self.groups.dp.size(), self.groups.dp.rank()
        generator = torch.Generator().manual_seed(update)
        packs = [
            _pack(torch.randint(0, self.model.vocab_size, (TOKENS + 1,), generator=generator))
            for _ in range(NUM_PACKS)
        ]
        return packs[mine::replicas]


def _pack(tokens: torch.Tensor) -> PackedBatch:
    return PackedBatch(
        token_ids=tokens[:-1],
        targets=tokens[1:],
        loss_mask=torch.ones(TOKENS),
        num_sequences=1,
        cu_seqlens=torch.tensor([0, TOKENS], dtype=torch.int32),
        sequence_ids=torch.zeros(TOKENS, dtype=torch.int64),
    )


def _bytes(value: torch.Tensor) -> bytes:
    return value.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().tobytes()


def world_size(layout: dict[str, int]) -> int:
    return LayoutConfig(**layout).world_size


def everybody(value: Any) -> list[Any]:
    """The value of every rank."""
    values = [None] * dist.get_world_size()
    dist.all_gather_object(values, value)
    return values

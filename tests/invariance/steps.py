"""What the invariance tests run on every rank: the same optimizer steps under one layout after another."""

import math
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from r1mega.config import LayoutConfig, ModelConfig
from r1mega.config.head import HeadConfig
from r1mega.config.model import Yarn
from r1mega.config.rl import GrpoConfig
from r1mega.config.training import OptimizerConfig, TrainConfig
from r1mega.record import TrainSample
from tests.objectives import GrpoOf

MODEL = ModelConfig(
    vocab_size=199,  # 57 rows of padding, all on the last rank
    hidden_size=64, num_layers=4, num_dense_layers=1, ffn_hidden_size=96, num_attention_heads=4,
    q_lora_rank=32, kv_lora_rank=16, qk_nope_head_dim=16, qk_rope_head_dim=8, v_head_dim=12,
    num_experts=8, num_shared_experts=1, moe_ffn_hidden_size=32, num_experts_per_token=2, num_expert_groups=4,
    num_groups_per_token=2, num_mtp_layers=1, init_std=0.06, max_context=64,
    yarn=Yarn(factor=4.0, original_context=16))
GRPO = GrpoConfig(kl_coef=0.05)
STEPS = 2


@dataclass(frozen=True)
class Case:
    """How the steps are run; the numbers must not depend on any of it, `mtp` and `reduction` apart."""

    layout: Mapping[str, Any] = field(default_factory=dict)
    micro_batch_tokens: int = 128
    mtp: str = "joint"
    reduction: str = "per_output"
    recompute: str = "none"
    head: HeadConfig = HeadConfig()
    model: ModelConfig = MODEL


@dataclass(frozen=True)
class Shard:
    """A piece of one parameter, or of its gradient, by its name in the whole model."""

    name: str
    piece: Tensor
    index: int
    count: int
    dim: int | None
    gated: bool


@dataclass(frozen=True)
class Outcome:
    """One rank's view of a case. Gradients are those of the first step, weights those after it."""

    losses: list[float]
    mtp_losses: list[float]
    grad_norms: list[float]
    sums: list[dict[str, float]]
    gradients: list[Shard]
    weights: list[Shard]
    num_packs: int


def samples() -> list[TrainSample]:
    """Prompts and responses of many lengths; old and reference policies around the one that is trained."""
    draw = random.Random(11)
    made = []
    for _ in range(14):
        prompt, response = draw.randint(1, 12), draw.randint(1, 30)
        length = prompt + response
        mask = (0,) * prompt + (1,) * response
        around = [[draw.gauss(-5.3, 0.3) for _ in range(length)] for _ in range(2)]
        made.append(TrainSample(
            tuple(draw.randrange(MODEL.vocab_size) for _ in range(length)), mask,
            {"old_log_probs": tuple(around[0]), "ref_log_probs": tuple(around[1])},
            {"advantage": draw.gauss(0, 1)}))
    return made


def train_under(cases: Sequence[Case]) -> list[Outcome]:
    """Every case in turn, each from the same initial weights."""
    import logging

    from megatron.core import parallel_state

    logging.disable(logging.WARNING)
    outcomes = []
    for case in cases:
        outcomes.append(_train(case))
        parallel_state.destroy_model_parallel()
    return outcomes


def _train(case: Case) -> Outcome:
    from r1mega.model import PolicySettings, build_policy
    from r1mega.parallel import start
    from r1mega.stage.packs import replica_packs
    from r1mega.training.learner import Learner

    groups = start(LayoutConfig(**case.layout), seed=0)
    # Balance and MTP losses weigh enough for a mistake in them to show
    train = TrainConfig(
        steps=STEPS, precision="fp32", micro_batch_tokens=case.micro_batch_tokens, mtp=case.mtp,
        mtp_loss_weight=0.5, sequence_balance_weight=0.05, router_bias_update_rate=0.01,
        recompute=case.recompute)
    learner = Learner(build_policy(case.model, groups, PolicySettings.of(train, case.head), seed=1), groups,
                      OptimizerConfig(lr=1e-3), train)
    packs = replica_packs(samples(), case.micro_batch_tokens, pad_id=0, groups=groups)
    objective = _objective(case)

    gradients: list[Shard] = []
    config = learner.wrapped[0].config
    finish = config.finalize_model_grads_func

    def finish_and_look(*args: Any, **kwargs: Any) -> None:
        finish(*args, **kwargs)
        if not gradients:
            _gather_gradients(learner.wrapped)
            gradients.extend(_shards(learner, groups, gradient=True))

    config.finalize_model_grads_func = finish_and_look
    results, weights = [], []
    for update in range(1, STEPS + 1):
        results.append(learner.step(packs, objective, update, STEPS))
        assert results[-1].applied
        weights = weights or _shards(learner, groups, gradient=False)
    return Outcome(
        losses=[result.loss for result in results], mtp_losses=[result.mtp_loss for result in results],
        grad_norms=[result.grad_norm for result in results], sums=[dict(result.sums) for result in results],
        gradients=gradients, weights=weights, num_packs=len(packs))


def _objective(case: Case) -> GrpoOf:
    config = GRPO.model_copy(update={"reduction": case.reduction})
    return GrpoOf(config, len(samples()), sum(sum(sample.loss_mask) for sample in samples()))


def _gather_gradients(wrapped: Sequence[Any]) -> None:
    """The distributed optimizer leaves each replica one slice of the summed gradients: fill in the others."""
    for chunk in wrapped:
        for buffer in chunk.buffers + chunk.expert_parallel_buffers:
            for bucket in buffer.buckets:
                group = buffer.data_parallel_group
                slices = list(bucket.grad_data.chunk(group.size()))
                gathered = [torch.empty_like(part) for part in slices]
                dist.all_gather(gathered, slices[group.rank()].clone(), group=group)
                for part, whole in zip(slices, gathered, strict=True):
                    part.copy_(whole)


def _shards(learner: Any, groups: Any, gradient: bool) -> list[Shard]:
    from r1mega.model.global_names import local_weights

    shards = []
    for weight in local_weights(learner.chunks, groups):
        value = weight.tensor
        if gradient:
            value = getattr(value, "main_grad", None)
            if value is None:
                continue  # a selection bias
        cut = weight.shard_dim is not None
        shards.append(Shard(weight.name, value.detach().clone(), weight.shard_group.rank() if cut else 0,
                            weight.num_shards, weight.shard_dim, weight.gated))
    return shards


def whole(by_rank: Sequence[Sequence[Shard]]) -> tuple[dict[str, Tensor], dict[str, float]]:
    """Full tensors by name, and how far apart copies of the same piece on different ranks are at most."""
    pieces: dict[str, dict[int, Shard]] = {}
    apart: dict[str, float] = {}
    for shards in by_rank:
        for shard in shards:
            first = pieces.setdefault(shard.name, {}).setdefault(shard.index, shard)
            distance = relative_distance(shard.piece, first.piece)
            apart[shard.name] = worst([apart.get(shard.name, 0.0), distance])
    return {name: _join(by_index) for name, by_index in pieces.items()}, apart


def _join(by_index: Mapping[int, Shard]) -> Tensor:
    first = by_index[0]
    assert sorted(by_index) == list(range(first.count)), first.name
    if first.count == 1:
        return first.piece
    pieces = [by_index[index].piece for index in range(first.count)]
    if first.gated:  # gate above up in every piece
        halves = [piece.chunk(2) for piece in pieces]
        return torch.cat([half[which] for which in (0, 1) for half in halves])
    return torch.cat(pieces, dim=first.dim)


def worst(values: Sequence[float]) -> float:
    """The largest; infinity if one is not finite. (`max` passes over a NaN that is not the first.)"""
    return max(values) if all(map(math.isfinite, values)) else math.inf


def relative_distance(tensor: Tensor, expected: Tensor) -> float:
    """|a - b| / |b| in the Frobenius norm; of two zeros 0."""
    difference = (tensor.double() - expected.double()).norm().item()
    return difference / max(expected.double().norm().item(), 1e-30) if difference else 0.0

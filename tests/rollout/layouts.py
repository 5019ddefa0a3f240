"""What the engine's tests run on every rank, layout after layout."""

import random
from dataclasses import dataclass, field
from typing import Any

from r1mega.config import LayoutConfig, ModelConfig
from r1mega.config.model import Yarn
from r1mega.record import Completion, SampleRequest, TrainSample

# Weights ten times as large as usual make a model with strong opinions, so that a wrong position or expert
# shows.
MODEL = ModelConfig(
    vocab_size=200, hidden_size=64, num_layers=4, num_dense_layers=1, ffn_hidden_size=96,
    num_attention_heads=4, q_lora_rank=32, kv_lora_rank=16,
    qk_nope_head_dim=16, qk_rope_head_dim=8, v_head_dim=12, num_experts=8,
    num_shared_experts=1, moe_ffn_hidden_size=32, num_experts_per_token=2, num_expert_groups=4,
    num_groups_per_token=2, num_mtp_layers=1, init_std=0.2, max_context=64)
YARN = MODEL.model_copy(update={"yarn": Yarn(factor=4.0, original_context=16)})
STOPS = tuple(range(12))


@dataclass(frozen=True)
class Case:
    """One run of the engine: requests go to replicas round robin, or all to the first."""

    layout: dict[str, int] = field(default_factory=dict)
    yarn: bool = False
    slots: int = 5
    num_requests: int = 24
    backwards: bool = False
    all_to_first: bool = False
    temperature: float = 1.0
    top_p: float = 1.0
    top_k: int = 0
    max_new_tokens: int = 12
    engine: dict[str, Any] = field(default_factory=dict)
    model: ModelConfig | None = None
    """Instead of MODEL, or of YARN."""


def requests(count: int) -> list[SampleRequest]:
    """Ragged prompts; every third request repeats the prompt of the one before."""
    draw = random.Random(7)
    made: list[SampleRequest] = []
    for index in range(count):
        prompt = tuple(draw.randrange(200) for _ in range(draw.randint(1, 30)))
        again = index % 3 == 2
        made.append(SampleRequest(made[-1].prompt_ids if again else prompt, seed=index * 7919 + (1 << 61)))
    return made


def sample_all(cases: list[Case]) -> list[tuple[dict[int, Completion], dict[int, list[float]]]]:
    """For every case: this rank's completions and the trainer's log-probs of the same tokens, by request."""
    from megatron.core import parallel_state

    from r1mega.model import build_policy
    from r1mega.parallel import start
    from r1mega.rollout import Engine, Sampling

    results = []
    for case in cases:
        groups = start(LayoutConfig(**case.layout), seed=0)
        model = case.model or (YARN if case.yarn else MODEL)
        chunks = build_policy(model, groups, seed=3)
        mine = [index for index in range(case.num_requests)
                if (0 if case.all_to_first else index % groups.dp.size()) == groups.dp_rank]
        if case.backwards:
            mine.reverse()
        asked = requests(case.num_requests)
        sampling = Sampling(temperature=case.temperature, top_p=case.top_p, top_k=case.top_k,
                            max_new_tokens=case.max_new_tokens, stop_ids=STOPS)
        got = Engine(chunks, groups, model, case.slots, **case.engine).generate(
            [asked[index] for index in mine], sampling)
        completions = dict(zip(mine, got, strict=True))
        scored = trainer_log_probs(chunks, groups, asked, completions, case.temperature or 1.0)
        results.append((completions, scored))
        parallel_state.destroy_model_parallel()
    return results


def trainer_log_probs(chunks: list, groups: Any, asked: list[SampleRequest],
                      completions: dict[int, Completion], temperature: float) -> dict[int, list[float]]:
    """From the trainer's own pass over prompt and completion, without a cache."""
    from r1mega.data import pack
    from r1mega.training.learner import score_packs

    samples = [TrainSample(asked[index].prompt_ids + completion.token_ids,
                           (0,) * len(asked[index].prompt_ids) + (1,) * len(completion.token_ids))
               for index, completion in completions.items()]
    samples = samples or [TrainSample((1, 2, 3), (0, 1, 1))]  # every replica brings one pack
    (batch,) = pack(samples, 100_000, groups.layout.tensor_parallel, 0)
    packs = [batch] * groups.pp.size()  # an interleaved schedule wants as many micro-batches as stages
    log_probs = score_packs(chunks, packs, groups, temperature)[0]
    return {index: log_probs[(batch.sequence_ids == place) & (batch.loss_mask == 1)].tolist()
            for place, index in enumerate(completions)}

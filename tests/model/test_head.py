"""The policy's head under a split vocabulary."""

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from r1mega.config import LayoutConfig, ModelConfig
from r1mega.config.head import HeadConfig
from r1mega.config.rl import GrpoConfig
from r1mega.config.training import OptimizerConfig, TrainConfig
from tests.model.test_router import TINY
from tests.ranks import run_ranks

TOKENS, VOCAB = 256, 4096


class Collectives(TorchDispatchMode):
    """How many elements the tensors have that collectives are given, whoever calls them."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[int] = []

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        if function.namespace == "c10d":
            self.seen += [x.numel() for x in tree_leaves((args, kwargs)) if isinstance(x, torch.Tensor)]
        return function(*args, **(kwargs or {}))


def largest_collectives(logits: str) -> tuple[int, int]:
    """Elements of the largest tensor that any collective was given: in a step of RL, and in scoring."""
    from r1mega.model import PolicySettings, build_policy
    from r1mega.parallel import start
    from r1mega.record import TrainSample
    from r1mega.stage.packs import replica_packs
    from r1mega.training.learner import Learner, score_packs
    from tests.objectives import GrpoOf

    groups = start(LayoutConfig(tensor_parallel=2), seed=0)
    train = TrainConfig(steps=1, precision="fp32", micro_batch_tokens=TOKENS)
    chunks = build_policy(ModelConfig(**{**TINY, "vocab_size": VOCAB, "max_context": TOKENS}), groups,
                          PolicySettings(mtp="joint", head=HeadConfig(logits=logits)))
    learner = Learner(chunks, groups, OptimizerConfig(lr=1e-3), train)
    sample = TrainSample(tuple(range(TOKENS)), (0, *[1] * (TOKENS - 1)), {"ref_log_probs": (-8.0,) * TOKENS},
                         {"advantage": 1.0})
    packs = replica_packs([sample], TOKENS, 0, groups)
    with Collectives() as scoring:
        score_packs(chunks, packs, groups)
    with Collectives() as step:
        learner.step(packs, GrpoOf(GrpoConfig(), 1, TOKENS - 1), 1, 1)
    return max(step.seen), max(scoring.seen)


@pytest.mark.parametrize("logits", ["chunked", "whole"])
def test_no_collective_carries_logits(logits: str):
    """What ranks exchange of a token are hidden states and four numbers; of a step, gradients and weights."""
    a_shard = TOKENS * VOCAB // 2
    for step, scoring in run_ranks(largest_collectives, 2, logits):
        assert TOKENS <= scoring <= TOKENS * TINY["hidden_size"]
        assert TOKENS <= step < a_shard / 2


def two_steps(head: HeadConfig) -> list[torch.Tensor]:
    """Losses, gradient norms, log-probs by scoring, and this rank's weights after two steps of GRPO with MTP."""
    from r1mega.model import PolicySettings, build_policy
    from r1mega.parallel import start
    from r1mega.record import TrainSample
    from r1mega.stage.packs import replica_packs
    from r1mega.training.learner import Learner, score_packs
    from tests.objectives import GrpoOf

    if head.implementation == "triton":
        import tests.kernels.interpreter  # noqa: F401
    groups = start(LayoutConfig(tensor_parallel=2), seed=0)
    train = TrainConfig(steps=2, precision="fp32", micro_batch_tokens=32)
    chunks = build_policy(ModelConfig(**{**TINY, "vocab_size": 61}), groups, PolicySettings(mtp="joint", head=head))
    learner = Learner(chunks, groups, OptimizerConfig(lr=1e-3), train)  # Adam makes rounding as large as lr
    samples = [TrainSample(tuple(range(first, first + length)), (0, 0, *[1] * (length - 2)),
                           {"old_log_probs": (-4.0,) * length, "ref_log_probs": (-4.2,) * length}, {"advantage": a})
               for first, length, a in ((3, 9, 1.0), (20, 14, -1.0))]
    packs = replica_packs(samples, 32, 0, groups)
    objective = GrpoOf(GrpoConfig(kl_coef=0.1, entropy_coef=0.01), 2, 19)
    results = [learner.step(packs, objective, update, 2, temperature=0.8) for update in (1, 2)]
    numbers = [value for result in results for value in (result.loss, result.mtp_loss, result.grad_norm)]
    scored = score_packs(chunks, packs, groups)
    return [torch.tensor(numbers), *scored, *(weight.detach() for weight in chunks[0].parameters())]


@pytest.mark.parametrize("logits", ["chunked", "whole"])
def test_the_trainer_learns_the_same_with_either_implementation(logits: str, monkeypatch: pytest.MonkeyPatch):
    """The kernels in Triton's interpreter, on two ranks that split the vocabulary; 61 tokens leave some padding."""
    pytest.importorskip("triton")
    reference = run_ranks(two_steps, 2, HeadConfig(logits=logits))
    monkeypatch.setenv("TRITON_INTERPRET", "1")  # of the ranks, which start afresh
    kernels = run_ranks(two_steps, 2, HeadConfig(logits=logits, implementation="triton"))
    for ours, theirs in zip(kernels, reference, strict=True):
        for value, expected in zip(ours, theirs, strict=True):
            torch.testing.assert_close(value, expected, rtol=2e-5, atol=2e-5)

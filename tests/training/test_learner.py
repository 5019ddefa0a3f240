"""The step's guards. That no layout changes its numbers is tests/invariance's business."""

import math

import pytest
import torch
from r1mega_kernels import TokenLoss, TokenTerms

from r1mega.config import LayoutConfig, ModelConfig
from r1mega.config.training import OptimizerConfig, TrainConfig
from r1mega.model import PolicySettings, build_policy
from r1mega.parallel import start, stop
from r1mega.record import PackedBatch
from r1mega.training.learner import Learner
from r1mega.training.schedule import learning_rate
from tests.model.test_router import TINY
from tests.objectives import Nll


@pytest.fixture
def learner(request: pytest.FixtureRequest):
    groups = start(LayoutConfig(), seed=0)
    settings = PolicySettings(mtp=getattr(request, "param", "joint"))
    chunks = build_policy(ModelConfig(**TINY), groups, settings)
    train = TrainConfig(steps=10, precision="fp32", micro_batch_tokens=64, router_bias_update_rate=0.01)
    yield Learner(chunks, groups, OptimizerConfig(lr=1e-2), train)
    stop()


def a_pack() -> PackedBatch:
    tokens = torch.arange(16) % 7
    mask = torch.ones(16)
    mask[[9, 15]] = 0
    return PackedBatch(tokens, torch.roll(tokens, -1), mask, torch.tensor([0, 10, 16], dtype=torch.int32),
                       torch.tensor([0] * 10 + [1] * 6), 2)


class BadGradient(Nll):
    """A finite loss with a gradient that is not."""

    def token_loss(self, batch: PackedBatch, scale: float) -> TokenLoss:
        good = super().token_loss(batch, scale)

        def spoiled(log_probs_R: torch.Tensor, entropy_R: torch.Tensor, rows: object) -> TokenTerms:
            terms = good(log_probs_R, entropy_R, rows)
            return terms._replace(d_log_probs=terms.d_log_probs * math.inf)

        spoiled.record_names, spoiled.needs_all_rows = (), False
        return spoiled


def everything(learner: Learner) -> dict[str, torch.Tensor]:
    """Weights, selection biases and both moments."""
    kept = {name: tensor.clone() for name, tensor in learner.chunks[0].state_dict().items() if torch.is_tensor(tensor)}
    for number, state in enumerate(learner.optimizer.chained_optimizers[0].optimizer.state.values()):
        kept |= {f"{number}.{name}": state[name].clone() for name in ("exp_avg", "exp_avg_sq")}
    return kept


def test_training_lowers_the_loss_and_moves_selection_biases(learner: Learner):
    first = learner.step([a_pack()], Nll(14), 1, 10)
    biases = learner.chunks[0].decoder.layers[1].mlp.router.expert_bias
    assert first.applied and biases.abs().sum() > 0
    assert {round(value, 6) for value in biases.abs().tolist()} <= {0.0, 0.01}
    for update in range(2, 11):
        last = learner.step([a_pack()], Nll(14), update, 10)
    assert last.loss < first.loss - 0.5 and last.mtp_loss < first.mtp_loss


@pytest.mark.parametrize("learner", ["joint", "detached"], indirect=True)
@pytest.mark.parametrize("where", ["loss", "gradient", "mtp"])
def test_a_step_that_is_not_finite_changes_nothing(learner: Learner, where: str):
    learner.step([a_pack()], Nll(14), 1, 10)
    before = everything(learner)
    train = learner.train
    objective = {"loss": Nll(14, factor=math.nan), "gradient": BadGradient(14), "mtp": Nll(14)}[where]
    if where == "mtp":
        learner.train = train.model_copy(update={"mtp_loss_weight": math.nan})
    result = learner.step([a_pack()], objective, 2, 10)
    assert not result.applied and not math.isfinite(result.grad_norm)
    after = everything(learner)
    assert all(torch.equal(before[name], after[name]) for name in before)
    learner.train = train
    assert learner.step([a_pack()], Nll(14), 3, 10).applied


def test_detached_mtp_leaves_the_trunk_as_it_would_be_without():
    gradients = {}
    for mode in ("off", "detached", "joint"):
        groups = start(LayoutConfig(), seed=0)
        chunks = build_policy(ModelConfig(**TINY), groups, PolicySettings(mtp=mode))
        train = TrainConfig(steps=10, precision="fp32", micro_batch_tokens=64, mtp=mode)
        learner = Learner(chunks, groups, OptimizerConfig(lr=1e-2), train)
        learner.step([a_pack()], Nll(14), 1, 10)
        gradients[mode] = {name: p.main_grad.clone() for name, p in chunks[0].named_parameters()
                           if hasattr(p, "main_grad")}
        stop()
    trunk = gradients["off"].keys()
    assert not any(name.startswith("mtp.") for name in trunk)
    for name in trunk:
        torch.testing.assert_close(gradients["detached"][name], gradients["off"][name], rtol=1e-5, atol=1e-7)
    assert gradients["detached"]["mtp.layers.0.eh_proj.weight"].abs().sum() > 0
    assert not torch.allclose(gradients["joint"]["embedding.word_embeddings.weight"],
                              gradients["off"]["embedding.word_embeddings.weight"])


def test_learning_rate_by_hand():
    cosine = OptimizerConfig(lr=1.0, min_lr=0.1, schedule="cosine", warmup_steps=2)
    # Half-way through the cosine: the mean of peak and floor.
    assert [round(learning_rate(cosine, step, 6), 4) for step in (1, 2, 4, 6, 9)] == [0.5, 1.0, 0.55, 0.1, 0.1]
    constant = OptimizerConfig(lr=2.0, warmup_steps=4)
    assert [learning_rate(constant, step, 100) for step in (1, 4, 5, 100)] == [0.5, 2.0, 2.0, 2.0]


def test_bf16_trains_with_fp32_masters_and_selection_biases():
    groups = start(LayoutConfig(), seed=0)
    chunks = build_policy(ModelConfig(**TINY), groups, PolicySettings(precision="bf16", mtp="joint"))
    train = TrainConfig(steps=10, precision="bf16", micro_batch_tokens=64)
    learner = Learner(chunks, groups, OptimizerConfig(lr=1e-2), train)
    losses = [learner.step([a_pack()], Nll(14), update, 10).loss for update in range(1, 11)]
    weight = chunks[0].decoder.layers[0].self_attention.linear_proj.weight
    inner = learner.optimizer.chained_optimizers[0]
    masters = {param.dtype for group in inner.optimizer.param_groups for param in group["params"]}
    assert weight.dtype == torch.bfloat16 and weight.main_grad.dtype == torch.float32 and masters == {torch.float32}
    assert chunks[0].decoder.layers[1].mlp.router.expert_bias.dtype == torch.float32
    assert losses[-1] < losses[0] - 0.5
    stop()

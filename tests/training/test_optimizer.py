"""Clipping and applying gradients, by hand on a model's optimizer."""

import math

import pytest
import torch

from r1mega.config import ModelConfig
from r1mega.config.training import OptimizerConfig
from r1mega.model import PolicySettings, build_policy
from r1mega.parallel import Groups
from r1mega.training.optimizer import build_optimizer, optimizer_step, wrap, zero_gradients
from tests.model.test_router import TINY

CLIP = 0.5


class Trained:
    """A model with detached MTP, whose gradients are set by hand, and its optimizer."""

    def __init__(self, groups: Groups):
        (self.chunk,) = chunks = build_policy(ModelConfig(**TINY), groups, PolicySettings(mtp="detached"))
        self.wrapped = wrap(chunks, groups)
        self.optimizer = build_optimizer(self.wrapped, OptimizerConfig(lr=1e-2, clip_grad=CLIP), lambda: None)

    def set_gradients(self, trunk: float, mtp: float) -> None:
        """Gradients of these norms: one element of the trunk, one of the MTP layers."""
        zero_gradients(self.wrapped, self.optimizer)
        self.parameter("decoder.").main_grad.view(-1)[0] = trunk
        self.parameter("mtp.").main_grad.view(-1)[0] = mtp

    def parameter(self, begin: str) -> torch.nn.Parameter:
        return next(p for name, p in self.chunk.named_parameters() if name.startswith(begin))

    def everything(self) -> list[torch.Tensor]:
        """Weights and moments."""
        moments = [value.clone() for inner in self.optimizer.chained_optimizers
                   for state in inner.optimizer.state.values() for value in state.values()]
        return [parameter.detach().clone() for parameter in self.chunk.parameters()] + moments


@pytest.fixture
def trained(groups: Groups) -> Trained:
    return Trained(groups)


@pytest.mark.parametrize(("trunk", "mtp"), [(math.nan, 1.0), (1.0, math.nan), (1.0, math.inf), (math.inf, 1.0)])
def test_one_norm_that_is_not_finite_stops_the_step_and_is_told(trained: Trained, trunk: float, mtp: float):
    trained.set_gradients(0.1, 0.1)
    optimizer_step(trained.optimizer, 1e-2)
    before = trained.everything()
    trained.set_gradients(trunk, mtp)
    assert not math.isfinite(optimizer_step(trained.optimizer, 1e-2))
    assert all(torch.equal(a, b) for a, b in zip(before, trained.everything(), strict=True))


def test_trunk_and_detached_mtp_are_clipped_each_by_its_own_norm(trained: Trained):
    trained.set_gradients(2.0, 0.25)
    assert optimizer_step(trained.optimizer, 1e-2) == 2.0  # the trunk's, before clipping
    moments = [state["exp_avg"].abs().max().item() for inner in trained.optimizer.chained_optimizers
               for state in inner.optimizer.state.values()]
    # Adam's first moment is a tenth of the gradient it was given: 2 was clipped to 0.5, and 0.25 left alone.
    assert sorted(moments)[-2:] == pytest.approx([0.025, 0.05], rel=1e-4)


def test_a_step_prepares_the_gradients_once(trained: Trained, monkeypatch: pytest.MonkeyPatch):
    calls = []
    prepare = trained.optimizer.prepare_grads
    monkeypatch.setattr(trained.optimizer, "prepare_grads", lambda: calls.append(0) or prepare())
    trained.set_gradients(2.0, 0.25)
    optimizer_step(trained.optimizer, 1e-2)
    assert len(calls) == 1

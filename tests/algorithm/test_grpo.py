import math

import pytest
import torch
from torch import Tensor

from r1mega.algorithm import grpo_tokens
from r1mega.config.rl import GrpoConfig

NO_KL = GrpoConfig(kl_coef=0.0)


def slow_grpo(values: list[float], config: GrpoConfig) -> tuple[float, float]:
    """Loss of one token and its derivative by log_p, from DeepSeekMath equations 3 and 4."""
    log_p, old, ref, advantage = values
    ratio = math.exp(log_p - old)
    clipped = min(max(ratio, 1 - config.clip_low), 1 + config.clip_high)
    objective = min(ratio * advantage, clipped * advantage)
    kl = math.exp(ref - log_p) - (ref - log_p) - 1
    slope = ratio * advantage if ratio * advantage <= clipped * advantage else 0.0
    kl_slope = 1 - math.exp(ref - log_p)
    return -(objective - config.kl_coef * kl), -(slope - config.kl_coef * kl_slope)


def loss_and_slope(
    log_ratio: Tensor, advantages: Tensor, config: GrpoConfig = NO_KL
) -> tuple[Tensor, Tensor]:
    """With an old log-prob of 0 and no reference."""
    log_probs = log_ratio.clone().requires_grad_()
    loss = grpo_tokens(log_probs, torch.zeros_like(log_ratio), None, advantages, config).loss
    loss.sum().backward()
    return loss.detach(), log_probs.grad


@pytest.mark.parametrize(
    ("clip_low", "clip_high", "kl_coef"), [(0.2, 0.2, 0.001), (0.2, 10.0, 0.04), (0.5, 0.28, 1.0)]
)
def test_equals_the_slow_reference_token_by_token(clip_low: float, clip_high: float, kl_coef: float):
    config = GrpoConfig(clip_low=clip_low, clip_high=clip_high, kl_coef=kl_coef)
    generator = torch.Generator().manual_seed(0)
    log_probs, old, ref = (-torch.rand(200, generator=generator, dtype=torch.float64) * 3 for _ in range(3))
    advantages = torch.randn(200, generator=generator, dtype=torch.float64)
    log_probs.requires_grad_()
    tokens = grpo_tokens(log_probs, old, ref, advantages, config)
    tokens.loss.sum().backward()
    for t in range(200):
        loss, slope = slow_grpo([x[t].item() for x in (log_probs, old, ref, advantages)], config)
        assert tokens.loss[t].item() == pytest.approx(loss, abs=1e-12)
        assert log_probs.grad[t].item() == pytest.approx(slope, abs=1e-12)
    assert 0 < tokens.clipped.sum() < 200


@pytest.mark.parametrize(
    ("ratio", "advantage", "loss", "slope"),
    [
        (1.0, 2.0, -2.0, -2.0),  # on policy: -A, and the gradient of plain policy gradient
        (1.1, 2.0, -2.2, -2.2),  # inside the clip
        (1.5, 2.0, -2.6, 0.0),  # A > 0, above 1 + 0.3: -1.3 * 2, no gradient
        (0.5, 2.0, -1.0, -1.0),  # A > 0, below: the minimum is the unclipped one
        (0.5, -2.0, 1.8, 0.0),  # A < 0, below 1 - 0.1: 0.9 * 2, no gradient
        (1.5, -2.0, 3.0, 3.0),  # A < 0, above: the minimum is the unclipped one
        (5.0, 0.0, 0.0, 0.0),
    ],
)
def test_both_signs_of_the_advantage_on_both_sides_of_the_clip(
    ratio: float, advantage: float, loss: float, slope: float
):
    config = GrpoConfig(kl_coef=0.0, clip_low=0.1, clip_high=0.3)
    log_ratio = torch.tensor([math.log(ratio)], dtype=torch.float64)
    result = loss_and_slope(log_ratio, torch.tensor([advantage], dtype=torch.float64), config)
    assert result[0].item() == pytest.approx(loss, abs=1e-12)
    assert result[1].item() == pytest.approx(slope, abs=1e-12)


@pytest.mark.parametrize(("width", "advantage"), [(1.0, 1.0), (0.5, -1.0)])
def test_at_the_edge_of_the_clip_the_gradient_remains(width: float, advantage: float):
    # log 2 and log 1/2 have exponentials of exactly 2 and 1/2 in fp64: the edges 1 + 1 and 1 - 0.5
    config = GrpoConfig(kl_coef=0.0, clip_low=0.5, clip_high=1.0)
    edge = 1 + width if advantage > 0 else 1 - width
    log_ratio = torch.tensor([edge], dtype=torch.float64).log()
    assert log_ratio.exp().item() == edge
    loss, slope = loss_and_slope(log_ratio, torch.tensor([advantage], dtype=torch.float64), config)
    assert loss.item() == -edge * advantage and slope.item() == pytest.approx(-edge * advantage, abs=1e-15)


@pytest.mark.parametrize("log_ratio", [100.0, 1e4, 1e30, float("inf")])
def test_a_huge_ratio_under_an_active_clip_has_a_finite_loss_and_exactly_no_gradient(log_ratio: float):
    loss, slope = loss_and_slope(torch.tensor([log_ratio]), torch.tensor([2.0]))
    assert loss.item() == pytest.approx(-2.4) and slope.item() == 0


@pytest.mark.parametrize("log_ratio", [-100.0, -1e30, float("-inf")])
def test_a_vanishing_ratio_is_clipped_for_bad_outputs_and_powerless_for_good_ones(log_ratio: float):
    loss, slope = loss_and_slope(torch.tensor([log_ratio] * 2), torch.tensor([-2.0, 2.0]))
    assert loss.tolist() == pytest.approx([1.6, 0.0], abs=1e-6)
    assert slope.tolist() == pytest.approx([0.0, 0.0], abs=1e-12) and slope[0] == 0


def test_a_huge_ratio_of_a_bad_output_stays_finite_with_a_gradient():
    loss, slope = loss_and_slope(torch.tensor([19.0, 200.0]), torch.tensor([-1.0, -1.0]))
    assert loss[0].item() == pytest.approx(math.exp(19), rel=1e-6)  # the paper's own function
    assert loss[1].item() == pytest.approx(math.exp(20) * 181, rel=1e-6)  # its tangent at 20: e^20 (1 + 180)
    assert slope.tolist() == pytest.approx([math.exp(19), math.exp(20)], rel=1e-6)


def test_tokens_do_not_know_of_each_other():
    log_probs = torch.tensor([-1.0, float("nan"), -2.0], requires_grad=True)
    old, ref = torch.full((3,), -1.5), torch.full((3,), -1.0)
    tokens = grpo_tokens(log_probs, old, ref, torch.ones(3), GrpoConfig())
    tokens.loss.sum().backward()
    assert tokens.loss.isnan().tolist() == [False, True, False]
    # A > 0: ratio e^0.5 is clipped, ratio e^-0.5 is not; 0.001 (1 - ref/pi) of each is the KL's
    expected = [0.0, -math.exp(-0.5) + 0.001 * (1 - math.e)]
    assert log_probs.grad[[0, 2]].tolist() == pytest.approx(expected, abs=1e-7)


def test_diagnostics_of_a_hand_worked_token():
    # pi = 1/2, old = 1/4, ref = 1/4: ratio 2, above 1.2 with A > 0; k3 = 1/2 - log 1/2 - 1 = 0.1931
    tokens = grpo_tokens(*(torch.tensor([p]).log() for p in (0.5, 0.25, 0.25)), torch.ones(1), GrpoConfig())
    assert tokens.ratio.item() == pytest.approx(2) and tokens.clipped.item()
    assert tokens.kl.item() == pytest.approx(math.log(2) - 0.5, abs=1e-6)
    assert tokens.loss.item() == pytest.approx(-1.2 + 0.001 * (math.log(2) - 0.5), abs=1e-6)


def test_the_kl_is_reported_where_it_costs_nothing():
    log_probs = torch.tensor([-1.0], requires_grad=True)
    tokens = grpo_tokens(log_probs, torch.tensor([-1.0]), torch.tensor([-2.0]), torch.zeros(1), NO_KL)
    tokens.loss.sum().backward()
    assert tokens.kl.item() == pytest.approx(math.exp(-1)) and tokens.loss.item() == 0
    assert log_probs.grad.item() == 0 and not tokens.kl.requires_grad


def test_old_and_reference_log_probs_get_no_gradient():
    log_probs, old, ref = (torch.tensor([-1.0], requires_grad=True) for _ in range(3))
    grpo_tokens(log_probs, old, ref, torch.ones(1), GrpoConfig()).loss.sum().backward()
    assert old.grad is None and ref.grad is None and log_probs.grad.item() == -1


def test_a_kl_term_without_a_reference_is_refused():
    with pytest.raises(ValueError, match="kl_coef=0.001"):
        grpo_tokens(torch.zeros(1), torch.zeros(1), None, torch.ones(1), GrpoConfig())

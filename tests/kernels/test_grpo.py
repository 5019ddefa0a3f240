import math

import pytest
import torch
from r1mega_kernels import GrpoOptions, GrpoTokens, LossTokens, grpo_loss
from torch import Tensor

NO_KL = GrpoOptions()
KL = GrpoOptions(kl_coef=0.001)


def grpo_of(
    log_probs: Tensor, old: Tensor | None, ref: Tensor | None, advantages: Tensor, options: GrpoOptions, **more: Tensor
) -> LossTokens:
    """All weights 1."""
    tokens = GrpoTokens(advantages, torch.ones_like(advantages), old, ref, **more)
    return grpo_loss(log_probs, torch.zeros_like(log_probs), tokens, options)


def slow_grpo(values: list[float], config: GrpoOptions) -> tuple[float, float]:
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
    log_ratio: Tensor, advantages: Tensor, config: GrpoOptions = NO_KL
) -> tuple[Tensor, Tensor]:
    """With an old log-prob of 0 and no reference."""
    log_probs = log_ratio.clone().requires_grad_()
    loss = grpo_of(log_probs, torch.zeros_like(log_ratio), None, advantages, config).loss
    loss.sum().backward()
    return loss.detach(), log_probs.grad


@pytest.mark.parametrize(
    ("clip_low", "clip_high", "kl_coef"), [(0.2, 0.2, 0.001), (0.2, 10.0, 0.04), (0.5, 0.28, 1.0)]
)
def test_equals_the_slow_reference_token_by_token(clip_low: float, clip_high: float, kl_coef: float):
    config = GrpoOptions(clip_low=clip_low, clip_high=clip_high, kl_coef=kl_coef)
    generator = torch.Generator().manual_seed(0)
    log_probs, old, ref = (-torch.rand(200, generator=generator, dtype=torch.float64) * 3 for _ in range(3))
    advantages = torch.randn(200, generator=generator, dtype=torch.float64)
    log_probs.requires_grad_()
    tokens = grpo_of(log_probs, old, ref, advantages, config)
    tokens.loss.sum().backward()
    for t in range(200):
        loss, slope = slow_grpo([x[t].item() for x in (log_probs, old, ref, advantages)], config)
        assert tokens.loss[t].item() == pytest.approx(loss, abs=1e-12)
        assert log_probs.grad[t].item() == pytest.approx(slope, abs=1e-12)
    assert 0 < tokens.records["clipped"].sum() < 200


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
    config = GrpoOptions(kl_coef=0.0, clip_low=0.1, clip_high=0.3)
    log_ratio = torch.tensor([math.log(ratio)], dtype=torch.float64)
    result = loss_and_slope(log_ratio, torch.tensor([advantage], dtype=torch.float64), config)
    assert result[0].item() == pytest.approx(loss, abs=1e-12)
    assert result[1].item() == pytest.approx(slope, abs=1e-12)


@pytest.mark.parametrize(("width", "advantage"), [(1.0, 1.0), (0.5, -1.0)])
def test_at_the_edge_of_the_clip_the_gradient_remains(width: float, advantage: float):
    # log 2 and log 1/2 have exponentials of exactly 2 and 1/2 in fp64: the edges 1 + 1 and 1 - 0.5
    config = GrpoOptions(kl_coef=0.0, clip_low=0.5, clip_high=1.0)
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
    tokens = grpo_of(log_probs, old, ref, torch.ones(3), KL)
    tokens.loss.sum().backward()
    assert tokens.loss.isnan().tolist() == [False, True, False]
    # A > 0: ratio e^0.5 is clipped, ratio e^-0.5 is not; 0.001 (1 - ref/pi) of each is the KL's
    expected = [0.0, -math.exp(-0.5) + 0.001 * (1 - math.e)]
    assert log_probs.grad[[0, 2]].tolist() == pytest.approx(expected, abs=1e-7)


def test_diagnostics_of_a_hand_worked_token():
    # pi = 1/2, old = 1/4, ref = 1/4: ratio 2, above 1.2 with A > 0; k3 = 1/2 - log 1/2 - 1 = 0.1931
    tokens = grpo_of(*(torch.tensor([p]).log() for p in (0.5, 0.25, 0.25)), torch.ones(1), KL)
    assert tokens.records["ratio"].item() == pytest.approx(2) and tokens.records["clipped"].item()
    assert tokens.records["kl"].item() == pytest.approx(math.log(2) - 0.5, abs=1e-6)
    assert tokens.loss.item() == pytest.approx(-1.2 + 0.001 * (math.log(2) - 0.5), abs=1e-6)


def test_the_kl_is_reported_where_it_costs_nothing():
    log_probs = torch.tensor([-1.0], requires_grad=True)
    tokens = grpo_of(log_probs, torch.tensor([-1.0]), torch.tensor([-2.0]), torch.zeros(1), NO_KL)
    tokens.loss.sum().backward()
    assert tokens.records["kl"].item() == pytest.approx(math.exp(-1)) and tokens.loss.item() == 0
    assert log_probs.grad.item() == 0 and not tokens.records["kl"].requires_grad


def test_old_and_reference_log_probs_get_no_gradient():
    log_probs, old, ref = (torch.tensor([-1.0], requires_grad=True) for _ in range(3))
    grpo_of(log_probs, old, ref, torch.ones(1), KL).loss.sum().backward()
    assert old.grad is None and ref.grad is None and log_probs.grad.item() == -1


def test_a_kl_term_without_a_reference_is_refused():
    with pytest.raises(ValueError, match="kl_coef=0.001"):
        grpo_of(torch.zeros(1), torch.zeros(1), None, torch.ones(1), KL)


def numbers(count: int, seed: int = 0) -> list[Tensor]:
    """log-probs, old and reference ones, advantages, weights (some 0), importance weights: fp64."""
    generator = torch.Generator().manual_seed(seed)
    log_probs, old, ref = (-torch.rand(count, generator=generator, dtype=torch.float64) * 3 for _ in range(3))
    advantages, weights, importance = (torch.randn(count, generator=generator, dtype=torch.float64) for _ in range(3))
    weights = weights.abs().masked_fill(torch.arange(count) % 5 == 0, 0)
    return [log_probs, old, ref, advantages, weights, importance.abs()]


def paper(
    log_probs: Tensor, entropy: Tensor, tokens: GrpoTokens, options: GrpoOptions, sequences: list[slice]
) -> Tensor:
    """The sum of the losses as the papers write it, for autograd to differentiate."""
    total = torch.zeros((), dtype=torch.float64)
    for part in sequences:
        used = tokens.weights_T[part] > 0
        log_ratio = (log_probs - tokens.old_log_probs_T)[part]
        ratio = log_ratio.exp()
        if options.ratio == "sequence" and used.any():  # GSPO-token: s_i as a number, the gradient through the policy
            mean = log_ratio[used].mean().detach()
            ratio = mean.exp() * (log_probs[part] - log_probs[part].detach()).exp()
        advantage = tokens.advantages_T[part]
        clipped = ratio.clamp(1 - options.clip_low, 1 + options.clip_high)
        objective = torch.minimum(ratio * advantage, clipped * advantage)
        if options.dual_clip is not None:
            objective = torch.where(advantage < 0, torch.maximum(objective, options.dual_clip * advantage), objective)
        log_inverse = (tokens.ref_log_probs_T - log_probs)[part]
        kl = {"k1": -log_inverse, "k2": log_inverse.square() / 2, "k3": log_inverse.exp() - log_inverse - 1}
        loss = -tokens.importance_T[part] * objective + options.kl_coef * kl[options.kl_estimator]
        total = total + (tokens.weights_T[part] * (loss - options.entropy_coef * entropy[part])).sum()
    return total


@pytest.mark.parametrize("ratio", ["token", "sequence"])
@pytest.mark.parametrize(("kl_estimator", "dual_clip"), [("k1", None), ("k2", 1.5), ("k3", 3.0)])
def test_written_out_derivatives_are_those_autograd_finds_in_the_papers_formulas(
    ratio: str, kl_estimator: str, dual_clip: float | None
):
    options = GrpoOptions(ratio=ratio, kl_estimator=kl_estimator, dual_clip=dual_clip, kl_coef=0.3, entropy_coef=0.1,
                          clip_low=0.1, clip_high=0.4)
    log_probs, old, ref, advantages, weights, importance = numbers(60)
    ids = torch.repeat_interleave(torch.tensor([0, 1, 2, 3, -1]), torch.tensor([7, 1, 30, 12, 10]))
    weights[50:] = 0  # padding
    sequences = [slice(0, 7), slice(7, 8), slice(8, 38), slice(38, 50)]
    tokens = GrpoTokens(advantages, weights, old, ref, importance, ids)
    outcomes = []
    for ours in (True, False):
        log_p, entropy = (x.clone().requires_grad_() for x in (log_probs, log_probs.abs()))
        total = (grpo_loss(log_p, entropy, tokens, options).loss.sum() if ours
                 else paper(log_p, entropy, tokens, options, sequences))
        total.backward()
        outcomes.append([total.detach(), log_p.grad, entropy.grad])
    for ours, theirs in zip(*outcomes, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-12)


def test_a_ratio_of_a_sequence_by_hand():
    # log ratios 0.2 and 0.4 of trained tokens, 9 of a prompt: s = e^0.3 for both, below 1 + 0.4
    options = GrpoOptions(ratio="sequence", clip_high=0.4)
    tokens = GrpoTokens(torch.ones(3), torch.tensor([0.0, 0.5, 0.5]), torch.zeros(3),
                        sequence_ids_T=torch.zeros(3, dtype=torch.long))
    log_probs = torch.tensor([9.0, 0.2, 0.4], requires_grad=True)
    result = grpo_loss(log_probs, torch.zeros(3), tokens, options)
    result.loss.sum().backward()
    s = math.exp(0.3)
    assert result.loss.tolist() == pytest.approx([0, -s / 2, -s / 2], rel=1e-6)
    assert log_probs.grad.tolist() == pytest.approx([0, -s / 2, -s / 2], rel=1e-6)
    assert result.records["ratio"].tolist() == pytest.approx([0, s, s], rel=1e-6)


def test_the_dual_clip_ends_what_a_bad_output_can_cost():
    # A = -2, ratio 5, c = 3: loss 3 * 2, no gradient; below c it is the plain one
    options = GrpoOptions(dual_clip=3.0)
    loss, slope = loss_and_slope(torch.tensor([5.0, 2.0]).log(), torch.tensor([-2.0, -2.0]), options)
    assert loss.tolist() == pytest.approx([6.0, 4.0]) and slope.tolist() == pytest.approx([0.0, 4.0])


def test_a_token_without_weight_plays_no_part_whatever_it_holds():
    nan = torch.full((2,), float("nan"))
    log_probs, entropy = (nan.clone().requires_grad_() for _ in range(2))
    tokens = GrpoTokens(nan, torch.zeros(2), nan, nan, nan, torch.zeros(2, dtype=torch.long))
    for ratio in ("token", "sequence"):
        result = grpo_loss(log_probs, entropy, tokens, GrpoOptions(kl_coef=1.0, entropy_coef=1.0, ratio=ratio))
        result.loss.sum().backward()
        for values in (result.loss, *result.records.values(), log_probs.grad, entropy.grad):
            assert (values == 0).all()


def test_without_old_log_probs_the_policy_is_the_old_one():
    log_probs = torch.tensor([-1.0, -2.0], requires_grad=True)
    result = grpo_of(log_probs, None, None, torch.tensor([2.0, -3.0]), NO_KL)
    result.loss.sum().backward()
    assert result.loss.tolist() == [-2, 3] and log_probs.grad.tolist() == [-2, 3]


def test_an_advantage_of_0_costs_nothing_even_where_the_old_policy_ruled_the_token_out():
    loss, slope = loss_and_slope(torch.tensor([float("inf"), 100.0]), torch.zeros(2))
    assert loss.tolist() == [0, 0] and slope.tolist() == [0, 0]


def test_a_huge_kl_stays_finite_with_its_gradient():
    log_probs = torch.tensor([-500.0], requires_grad=True)
    result = grpo_of(log_probs, torch.tensor([-500.0]), torch.tensor([0.0]), torch.zeros(1), GrpoOptions(kl_coef=1.0))
    result.loss.sum().backward()
    assert result.loss.item() == pytest.approx(math.exp(20) * 481, rel=1e-6)  # the tangent at 20: e^20 (1 + 480)
    assert log_probs.grad.item() == pytest.approx(-math.exp(20), rel=1e-6)


@pytest.mark.parametrize(
    ("tokens", "options", "message"),
    [({}, {"ratio": "sequence"}, "sequence_ids"), ({}, {"clip_low": 2.0}, "clip_low=2.0"),
     ({}, {"dual_clip": 0.9}, "dual_clip=0.9")],
)
def test_what_is_missing_or_makes_no_sense_is_refused(tokens: dict, options: dict, message: str):
    with pytest.raises(ValueError, match=message):
        grpo_loss(torch.zeros(1), torch.zeros(1), GrpoTokens(torch.ones(1), torch.ones(1), **tokens),
                  GrpoOptions(**options))

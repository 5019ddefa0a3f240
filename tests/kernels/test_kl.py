import math

import pytest
import torch
from r1mega_kernels.kl import kl_divergence

LOG2 = math.log(2)


@pytest.mark.parametrize(
    ("estimator", "expected"),
    # pi = 1/4, ref = 1/2: pi/ref = 1/2. k1 = log 1/2; k2 = (log 1/2)^2 / 2; k3 = 2 - log 2 - 1
    [("k1", -LOG2), ("k2", LOG2**2 / 2), ("k3", 1 - LOG2)],
)
def test_hand_worked_values(estimator: str, expected: float):
    result = kl_divergence(torch.tensor([0.25]).log(), torch.tensor([0.5]).log(), estimator)
    assert result.item() == pytest.approx(expected, abs=1e-7)


@pytest.mark.parametrize("estimator", ["k1", "k3"])
def test_unbiased_estimators_average_to_the_divergence(estimator: str):
    # over all outcomes of a distribution, weighted by pi: sum pi log(pi / ref), exactly
    policy = torch.tensor([0.5, 0.3, 0.2], dtype=torch.float64)
    reference = torch.tensor([0.2, 0.2, 0.6], dtype=torch.float64)
    exact = math.fsum(p * math.log(p / q) for p, q in zip(policy.tolist(), reference.tolist(), strict=True))
    estimate = (policy * kl_divergence(policy.log(), reference.log(), estimator)).sum()
    assert estimate.item() == pytest.approx(exact, abs=1e-14)


def test_k3_is_zero_for_equal_policies_and_never_negative():
    log_probs = -torch.rand(1000, generator=torch.Generator().manual_seed(0)) * 10
    assert (kl_divergence(log_probs, log_probs, "k3") == 0).all()
    near = log_probs + torch.linspace(-1e-3, 1e-3, 1000)
    assert (kl_divergence(log_probs, near, "k3") >= 0).all()


def test_k3_gradient_is_one_minus_the_ratio():
    # d/dlog pi [e^(r - x) - (r - x) - 1] = 1 - ref/pi; here ref/pi = 2 and 1/2
    log_probs = torch.tensor([0.25, 0.5], dtype=torch.float64).log().requires_grad_()
    kl_divergence(log_probs, torch.tensor([0.5, 0.25], dtype=torch.float64).log(), "k3").sum().backward()
    assert log_probs.grad.tolist() == pytest.approx([-1.0, 0.5], abs=1e-12)


@pytest.mark.parametrize("log_ratio", [19.9, 20.0, 89.0, 1e4, -89.0, -1e4])
def test_k3_and_its_gradient_stay_finite_and_growing_where_fp32_would_overflow(log_ratio: float):
    log_probs = torch.tensor([0.0], requires_grad=True)
    value = kl_divergence(log_probs, torch.tensor([log_ratio]), "k3")
    value.sum().backward()
    assert value.isfinite().all() and log_probs.grad.isfinite().all()
    if log_ratio <= 20:  # the paper's own function
        assert value.item() == pytest.approx(math.exp(log_ratio) - 1 - log_ratio, rel=1e-5)
        assert log_probs.grad.item() == pytest.approx(1 - math.exp(log_ratio), rel=1e-5)
    else:  # its tangent: the pull back does not stop
        assert value.item() == pytest.approx(math.exp(20) * (1 + log_ratio - 20) - 1 - log_ratio, rel=1e-5)
        assert log_probs.grad.item() == pytest.approx(1 - math.exp(20), rel=1e-5)

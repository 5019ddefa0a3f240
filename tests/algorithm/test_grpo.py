"""GRPO on packs, against the objective written as loops over questions, outputs and tokens."""

import math
from dataclasses import dataclass, replace

import pytest
import torch
from r1mega_kernels import LossTokens, Options, grpo_loss, log_prob, logits_loss
from torch import Tensor

from r1mega.algorithm import group_advantages, grpo, loss_weights
from r1mega.config.rl import GrpoConfig
from r1mega.record import PackedBatch

CONFIG = GrpoConfig(kl_coef=0.05, clip_low=0.2, clip_high=0.3)
VOCAB = 11


@dataclass(frozen=True)
class Output:
    """A sampled output: its tokens, the logits that predict them, and what older policies thought of them."""

    targets_N: Tensor
    logits_NV: Tensor
    old_N: Tensor
    ref_N: Tensor
    advantage: float


def random_outputs(lengths: list[int], seed: int = 0) -> list[Output]:
    generator = torch.Generator().manual_seed(seed)
    rewards = torch.rand(1, len(lengths), generator=generator, dtype=torch.float64)
    outputs = []
    for length, advantage in zip(lengths, group_advantages(rewards)[0].tolist(), strict=True):
        logits = torch.randn(length, VOCAB, generator=generator, dtype=torch.float64)
        targets = torch.randint(0, VOCAB, (length,), generator=generator)
        now = torch.log_softmax(logits, dim=-1).gather(1, targets[:, None])[:, 0]
        noise = torch.randn(2, length, generator=generator, dtype=torch.float64) * 0.4
        outputs.append(Output(targets, logits, now + noise[0], now + noise[1], advantage))
    return outputs


def pack(outputs: list[Output], garbage: float = 0.0) -> tuple[PackedBatch, Tensor]:
    """Each output after a prompt of 2 positions, 2 positions of padding at the end; and the logits, [T, V].

    Positions that are not trained on hold `garbage`.
    """
    names = ("targets", "mask", "ids", "old", "ref", "logits")
    columns: dict[str, list[Tensor]] = {name: [] for name in names}
    nothing = torch.full((2,), garbage, dtype=torch.float64)
    for i, output in [*enumerate(outputs), (-1, None)]:
        columns["targets"] += [torch.zeros(2, dtype=torch.long)]
        columns["mask"] += [torch.zeros(2)]
        columns["old"] += [nothing]
        columns["ref"] += [nothing]
        columns["logits"] += [torch.full((2, VOCAB), garbage, dtype=torch.float64)]
        columns["ids"] += [torch.full((2 + (len(output.targets_N) if output else 0),), i)]
        if output:
            columns["targets"] += [output.targets_N]
            columns["mask"] += [torch.ones(len(output.targets_N))]
            columns["old"] += [output.old_N]
            columns["ref"] += [output.ref_N]
            columns["logits"] += [output.logits_NV]
    joined = {name: torch.cat(parts) for name, parts in columns.items()}
    batch = PackedBatch(
        token_ids=joined["targets"],
        targets=joined["targets"],
        loss_mask=joined["mask"],
        cu_seqlens=torch.zeros(0),
        sequence_ids=joined["ids"],
        num_sequences=len(outputs),
        per_token={"old_log_probs": joined["old"], "ref_log_probs": joined["ref"]},
        per_sample={"advantage": torch.tensor([output.advantage for output in outputs], dtype=torch.float64)},
    )
    return batch, joined["logits"]


def slow_objective(outputs: list[Output], reduction: str) -> float:
    """DeepSeekMath equation 3 over one group, negated."""
    totals = []
    for output in outputs:
        tokens = []
        for n in range(len(output.targets_N)):
            row = output.logits_NV[n].tolist()
            log_p = row[int(output.targets_N[n])] - math.log(math.fsum(math.exp(x) for x in row))
            ratio = math.exp(log_p - output.old_N[n].item())
            bounded = min(max(ratio, 1 - CONFIG.clip_low), 1 + CONFIG.clip_high)
            log_ref = output.ref_N[n].item() - log_p
            kl = math.exp(log_ref) - log_ref - 1
            tokens.append(min(ratio * output.advantage, bounded * output.advantage) - CONFIG.kl_coef * kl)
        totals.append(tokens)
    if reduction == "per_output":
        return -math.fsum(math.fsum(tokens) / len(tokens) for tokens in totals) / len(totals)
    return -math.fsum(math.fsum(tokens) for tokens in totals) / sum(len(tokens) for tokens in totals)


def run(
    parts: list[list[Output]], config: GrpoConfig, garbage: float = 0.0
) -> tuple[float, list[Tensor], dict[str, float]]:
    """Loss, gradient of each output's logits [N, V] and summed metrics of a step over these micro-batches."""
    outputs = sum(map(len, parts))
    tokens = sum(len(output.targets_N) for part in parts for output in part)
    loss, grads, metrics = 0.0, [], {}
    for part in parts:
        batch, logits = pack(part, garbage)
        logits.requires_grad_()
        weights = loss_weights(batch, config, total_outputs=outputs, total_tokens=tokens).double()
        result = logits_loss(logits, batch.targets, grpo(batch, weights, config), Options())
        result.loss.sum().backward()
        loss += result.loss.sum().item()
        assert (logits.grad[batch.loss_mask == 0] == 0).all()
        grads += [logits.grad[(batch.sequence_ids == i) & (batch.loss_mask > 0)] for i in range(len(part))]
        for name, value in result.records.items():
            metrics[name] = metrics.get(name, 0) + value.sum().item()
    return loss, grads, metrics


@pytest.mark.parametrize("reduction", ["per_output", "per_token"])
def test_any_packing_into_micro_batches_gives_the_papers_objective_and_one_gradient(reduction: str):
    config = CONFIG.model_copy(update={"reduction": reduction})
    outputs = random_outputs([4, 1, 7, 3, 2])
    loss, grads, metrics = run([outputs], config)
    assert loss == pytest.approx(slow_objective(outputs, reduction), abs=1e-7)  # weights are fp32
    assert 0 < metrics["clipped"] < 17
    for parts in ([outputs[:2], outputs[2:]], [[output] for output in outputs], [outputs[3:], outputs[:3]]):
        other_loss, other_grads, other_metrics = run(parts, config)
        order = [output for part in parts for output in part]
        assert other_loss == pytest.approx(loss, abs=1e-12)
        assert other_metrics == pytest.approx(metrics, abs=1e-12)
        for output, grad in zip(order, other_grads, strict=True):
            index = next(i for i, candidate in enumerate(outputs) if candidate is output)
            torch.testing.assert_close(grad, grads[index], rtol=0, atol=1e-14)


def test_the_gradient_is_the_derivative_of_the_papers_objective():
    outputs = random_outputs([3, 2, 4], seed=4)
    _, grads, _ = run([outputs], CONFIG)
    step = 1e-5
    for i, n, v in [(0, 0, 0), (0, 2, 5), (1, 1, 10), (2, 3, 1)]:
        sides = []
        for sign in (1, -1):
            logits = outputs[i].logits_NV.clone()
            logits[n, v] += sign * step
            moved = [*outputs[:i], replace(outputs[i], logits_NV=logits), *outputs[i + 1 :]]
            sides.append(slow_objective(moved, "per_output"))
        assert grads[i][n, v].item() == pytest.approx((sides[0] - sides[1]) / (2 * step), abs=1e-8)


def test_an_output_does_not_feel_the_others_in_its_pack():
    outputs = random_outputs([4, 2, 3])
    before = run([outputs], CONFIG)[1]
    after = run([[outputs[0], random_outputs([9], seed=8)[0], outputs[2]]], CONFIG)[1]
    assert torch.equal(before[0], after[0]) and torch.equal(before[2], after[2])


@pytest.mark.parametrize("garbage", [float("nan"), float("inf"), float("-inf"), 1e30])
def test_positions_that_are_not_trained_on_play_no_part_whatever_is_in_them(garbage: float):
    outputs = random_outputs([4, 2])
    clean, dirty = run([outputs], CONFIG), run([outputs], CONFIG, garbage)
    assert dirty[0] == clean[0] and dirty[2] == clean[2]
    assert all(torch.equal(a, b) for a, b in zip(clean[1], dirty[1], strict=True))


def of_log_probs(log_probs: Tensor, batch: PackedBatch, weights: Tensor, config: GrpoConfig) -> LossTokens:
    loss = grpo(batch, weights, config)
    return grpo_loss(log_probs, torch.zeros_like(log_probs), loss.tokens, loss.options)


def test_records_by_hand():
    # two tokens of probability 1/2; old 1/4 and 1/2, so ratios 2 and 1; A = 1, so the first is clipped at
    # 1.3; reference 1/2, so no KL; loss (-1.3 - 1) / 2
    half = torch.tensor([0.5, 0.5]).log()
    batch, _ = pack([])
    batch = replace(
        batch, targets=torch.zeros(2).long(), loss_mask=torch.ones(2), sequence_ids=torch.zeros(2).long(),
        num_sequences=1, per_sample={"advantage": torch.ones(1)},
        per_token={"old_log_probs": torch.tensor([0.25, 0.5]).log(), "ref_log_probs": half},
    )
    result = of_log_probs(half, batch, torch.full((2,), 0.5), CONFIG)
    assert result.loss.sum().item() == pytest.approx(-1.15)
    expected = {"clipped": [1, 0], "ratio": [2, 1], "kl": [0, 0]}
    for name, values in expected.items():
        assert result.records[name].tolist() == pytest.approx(values, abs=1e-6)


def test_importance_weights_are_old_over_sampler_up_to_the_cap():
    # old / sampler = 2 and 1/2, cap 1.5; A = 1, all ratios 1: -1.5 and -0.5
    batch, _ = pack([])
    log_probs = torch.tensor([0.5, 0.25]).log()
    batch = replace(
        batch, targets=torch.zeros(2).long(), loss_mask=torch.ones(2), sequence_ids=torch.zeros(2).long(),
        num_sequences=1, per_sample={"advantage": torch.ones(1)},
        per_token={"old_log_probs": log_probs, "sampler_log_probs": torch.tensor([0.25, 0.5]).log()},
    )
    config = GrpoConfig(kl_coef=0.0, importance_cap=1.5)
    assert of_log_probs(log_probs, batch, torch.ones(2), config).loss.tolist() == pytest.approx([-1.5, -0.5])


def test_without_old_log_probs_the_policy_is_its_own_old_one():
    # ratios are 1: the gradient is that of -A log p
    outputs = random_outputs([3])
    batch, logits = pack(outputs)
    batch = replace(batch, per_token={}, per_sample={"advantage": torch.tensor([2.0], dtype=torch.float64)})
    log_probs = log_prob(logits, batch.targets).log_probs.detach().requires_grad_()
    config = CONFIG.model_copy(update={"kl_coef": 0.0})
    result = of_log_probs(log_probs, batch, batch.loss_mask, config)
    result.loss.sum().backward()
    assert result.loss.sum().item() == -6 and result.records["ratio"].sum().item() == 3
    assert log_probs.grad.tolist() == [0, 0, -2, -2, -2, 0, 0]


def test_a_pack_of_nothing_but_padding_adds_nothing():
    batch, logits = pack([])
    logits.requires_grad_()
    result = logits_loss(logits, batch.targets, grpo(batch, torch.zeros(2), CONFIG), Options())
    result.loss.sum().backward()
    assert result.loss.sum().item() == 0 and (logits.grad == 0).all()


def test_a_batch_without_advantages_is_refused():
    batch, _ = pack(random_outputs([2]))
    with pytest.raises(ValueError, match="'advantage'"):
        grpo(replace(batch, per_sample={}), batch.loss_mask, CONFIG)

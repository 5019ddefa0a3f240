"""The GRPO of Triton against the fp64 reference. T tokens.

Not collected by name: test_log_prob_triton.py runs this file in a process of its own, in Triton's interpreter, or on
a GPU. Blocks are small here, so that a few tokens fill many: 16 tokens, 8 of a sequence.
"""

import math
from collections.abc import Mapping

import pytest
import torch
from r1mega_kernels import GrpoOptions, GrpoTokens, grpo_loss, grpo_triton, log_prob_triton
from torch import Tensor

import tests.kernels.interpreter  # noqa: F401

DEVICE = "cpu" if log_prob_triton.INTERPRETED else "cuda"
INF, NAN = float("inf"), float("nan")
BLOCK = 8
LENGTHS = (1, BLOCK - 1, BLOCK, BLOCK + 1, 2 * BLOCK - 1, 2 * BLOCK, 2 * BLOCK + 1, 3)


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(grpo_triton, "BLOCK_TOKENS", 16)
    monkeypatch.setattr(grpo_triton, "BLOCK_SEQUENCE", BLOCK)


def on_device(values: object) -> Tensor:
    return torch.as_tensor(values, dtype=torch.float32).to(DEVICE)


def some_tokens(lengths: tuple[int, ...] = LENGTHS, padding: int = 5) -> tuple[Tensor, Tensor, GrpoTokens]:
    """log-probs, entropies, and everything else; every fourth token has no weight, nor has the padding."""
    ids_T = torch.repeat_interleave(torch.arange(len(lengths) + 1), torch.tensor([*lengths, padding]))
    ids_T[len(ids_T) - padding :] = -1
    generator = torch.Generator().manual_seed(0)
    numbers_7T = torch.randn(7, len(ids_T), generator=generator)
    log_probs_T = -numbers_7T[0].exp()
    weights_T = numbers_7T[1].abs().masked_fill((torch.arange(len(ids_T)) % 4 == 2) | (ids_T < 0), 0)
    tokens = GrpoTokens(
        advantages_T=numbers_7T[2], weights_T=weights_T, old_log_probs_T=log_probs_T + 0.4 * numbers_7T[3],
        ref_log_probs_T=log_probs_T + 0.4 * numbers_7T[4], importance_T=numbers_7T[5].abs(), sequence_ids_T=ids_T)
    return log_probs_T.to(DEVICE), numbers_7T[6].abs().to(DEVICE), GrpoTokens(*(x.to(DEVICE) for x in tokens))


def outcome(
    log_probs: Tensor, entropy: Tensor, tokens: GrpoTokens, options: GrpoOptions, implementation: str = "triton"
) -> dict[str, Tensor]:
    """Loss, records and the gradients of log-probs and entropies."""
    log_probs, entropy = (x.detach().clone().requires_grad_() for x in (log_probs, entropy))
    result = grpo_loss(log_probs, entropy, tokens, options, implementation)
    result.loss.sum().backward()
    d_entropy = torch.zeros_like(entropy) if entropy.grad is None else entropy.grad
    return {"loss": result.loss.detach(), "d_log_probs": log_probs.grad, "d_entropy": d_entropy, **result.records}


def assert_equals_the_reference(log_probs: Tensor, entropy: Tensor, tokens: GrpoTokens, options: GrpoOptions) -> None:
    ours = outcome(log_probs, entropy, tokens, options)
    exact = outcome(log_probs.double(), entropy.double(), tokens, options, "reference")
    for name, values in ours.items():
        assert values.dtype == torch.float32
        torch.testing.assert_close(values.double(), exact[name], rtol=2e-6, atol=1e-6)
        assert (values.double() - exact[name]).norm() <= 1e-6 * exact[name].norm(), name


def loss_and_slope(
    log_ratio: object, advantages: object, options: GrpoOptions, **more: Tensor
) -> tuple[Tensor, Tensor, Mapping[str, Tensor]]:
    """With an old log-prob of 0 and no reference, all weights 1."""
    log_probs, advantages = on_device(log_ratio).requires_grad_(), on_device(advantages)
    tokens = GrpoTokens(advantages, torch.ones_like(advantages), torch.zeros_like(advantages), **more)
    result = grpo_loss(log_probs, torch.zeros_like(advantages), tokens, options, "triton")
    result.loss.sum().backward()
    return result.loss.detach(), log_probs.grad, result.records


@pytest.mark.parametrize("ratio", ["token", "sequence"])
@pytest.mark.parametrize(("kl_estimator", "dual_clip"), [("k1", None), ("k2", 1.2), ("k3", 3.0)])
@pytest.mark.parametrize(
    "absent", [(), ("old_log_probs_T",), ("ref_log_probs_T",), ("importance_T",),
               ("old_log_probs_T", "ref_log_probs_T", "importance_T")])
def test_equals_the_fp64_reference(ratio: str, kl_estimator: str, dual_clip: float | None, absent: tuple[str, ...]):
    log_probs, entropy, tokens = some_tokens()
    options = GrpoOptions(
        clip_low=0.1, clip_high=0.3, dual_clip=dual_clip, kl_coef=0.0 if "ref_log_probs_T" in absent else 0.3,
        kl_estimator=kl_estimator, ratio=ratio, entropy_coef=0.1 if len(absent) < 3 else 0.0)
    assert_equals_the_reference(log_probs, entropy, tokens._replace(**dict.fromkeys(absent)), options)


def test_an_advantage_of_0_costs_nothing_even_where_the_old_policy_ruled_the_token_out():
    result = loss_and_slope([math.inf, 100.0], [0.0, 0.0], GrpoOptions())
    assert [value.tolist() for value in result[:2]] == [[0, 0], [0, 0]]


def test_both_signs_of_the_advantage_on_both_sides_of_the_clip():
    cases = [  # ratio, advantage, loss, slope
        (1.0, 2.0, -2.0, -2.0),  # on policy
        (1.1, 2.0, -2.2, -2.2),  # inside the clip
        (1.5, 2.0, -2.6, 0.0),  # A > 0, above 1 + 0.3
        (0.5, 2.0, -1.0, -1.0),  # A > 0, below: the minimum is the unclipped one
        (0.5, -2.0, 1.8, 0.0),  # A < 0, below 1 - 0.1
        (1.5, -2.0, 3.0, 3.0),  # A < 0, above: the minimum is the unclipped one
        (5.0, -2.0, 8.0, 0.0),  # A < 0, above the dual clip of 4
        (5.0, 0.0, 0.0, 0.0),
    ]
    ratio, advantage, loss, slope = zip(*cases, strict=True)
    options = GrpoOptions(clip_low=0.1, clip_high=0.3, dual_clip=4.0)
    result = loss_and_slope([math.log(r) for r in ratio], advantage, options)
    assert result[0].tolist() == pytest.approx(loss, rel=1e-6)
    assert result[1].tolist() == pytest.approx(slope, rel=1e-6)
    assert result[2]["clipped"].tolist() == [0, 0, 1, 0, 1, 0, 1, 0]


def test_at_the_edge_of_a_clip_the_gradient_remains_and_a_hair_beyond_it_is_gone():
    log_ratio, advantage = [0.25, -0.25, 1.0], [1.0, -1.0, -1.0]
    ratio = loss_and_slope(log_ratio, advantage, GrpoOptions(clip_low=1.0, clip_high=9.0))[2]["ratio"].tolist()
    edges = {"clip_high": ratio[0] - 1, "clip_low": 1 - ratio[1], "dual_clip": ratio[2]}  # exactly these ratios
    slope = loss_and_slope(log_ratio, advantage, GrpoOptions(**edges))[1]
    assert slope.tolist() == [-ratio[0], ratio[1], ratio[2]]
    hair = 2e-7  # above a spacing of fp32 numbers around each ratio
    beyond = {name: edge - hair * (3 if name == "dual_clip" else 1) for name, edge in edges.items()}
    loss, slope, records = loss_and_slope(log_ratio, advantage, GrpoOptions(**beyond))
    assert slope.tolist() == [0, 0, 0] and records["clipped"].tolist() == [1, 1, 1]
    assert loss.tolist() == pytest.approx([-ratio[0], ratio[1], ratio[2]], rel=1e-6)


@pytest.mark.parametrize("clip", [0.0, 0.2])
def test_the_ratio_of_an_unchanged_policy_is_exactly_1_and_never_clipped(clip: float):
    loss, slope, records = loss_and_slope([0.0, 0.0], [2.0, -3.0], GrpoOptions(clip_low=clip, clip_high=clip))
    assert loss.tolist() == [-2, 3] and slope.tolist() == [-2, 3]
    assert records["ratio"].tolist() == [1, 1] and records["clipped"].tolist() == [0, 0]


@pytest.mark.parametrize("ratio", ["token", "sequence"])
def test_huge_and_vanishing_ratios_under_an_active_clip_have_a_finite_loss_and_exactly_no_gradient(ratio: str):
    log_ratio = [100.0, 1e4, 1e30, INF, -100.0, -1e30, -INF]
    ids = torch.arange(7, device=DEVICE)
    loss, slope, _ = loss_and_slope(
        log_ratio, [2.0] * 4 + [-2.0] * 3, GrpoOptions(ratio=ratio), sequence_ids_T=ids)
    assert loss.tolist() == pytest.approx([-2.4] * 4 + [1.6] * 3) and slope.tolist() == [0] * 7


def test_a_huge_ratio_of_a_bad_output_stays_finite_with_a_gradient():
    loss, slope, _ = loss_and_slope([19.0, 200.0], [-1.0, -1.0], GrpoOptions())
    assert loss.tolist() == pytest.approx([math.exp(19), math.exp(20) * 181], rel=5e-6)
    assert slope.tolist() == pytest.approx([math.exp(19), math.exp(20)], rel=5e-6)


def test_a_huge_kl_stays_finite_with_its_gradient_and_costs_nothing_without_a_coefficient():
    log_probs, zeros = on_device([-500.0, -1e30]), on_device([0.0, 0.0])
    tokens = GrpoTokens(zeros, zeros + 1, log_probs, zeros)
    ours = outcome(log_probs, zeros, tokens, GrpoOptions(kl_coef=1.0))
    assert ours["loss"][0].item() == pytest.approx(math.exp(20) * 481, rel=1e-6)  # the tangent at 20
    assert ours["d_log_probs"].tolist() == pytest.approx([-math.exp(20)] * 2, rel=5e-6)  # exp2 of 28.9, in fp32
    assert outcome(log_probs, zeros, tokens, GrpoOptions())["loss"].tolist() == [0, 0]


def test_k3_has_all_its_digits_where_policies_are_close():
    x = torch.cat([torch.logspace(-6, 0.5, 40), -torch.logspace(-6, 0.5, 40), torch.tensor([0.0])])
    log_probs, zeros = on_device(-x), torch.zeros(81, device=DEVICE)
    ours = outcome(log_probs, zeros, GrpoTokens(zeros, zeros + 1, None, zeros), GrpoOptions(kl_coef=1.0))
    exact = torch.expm1(x.double()) - x.double()
    near = x.double().abs() < 0.01  # where even fp64's subtraction loses digits
    exact = torch.where(near, x.double() ** 2 / 2 * (1 + x.double() / 3 * (1 + x.double() / 4)), exact).to(DEVICE)
    torch.testing.assert_close(ours["kl"].double(), exact, rtol=5e-6, atol=0)  # of a GPU's exp2, 2^-22, minus 1.5
    torch.testing.assert_close(ours["d_log_probs"].double(), -torch.expm1(x.double()).to(DEVICE), rtol=2e-6, atol=0)
    assert (ours["kl"] >= 0).all()


@pytest.mark.parametrize("ratio", ["token", "sequence"])
@pytest.mark.parametrize("bad", [NAN, INF, -INF])
def test_a_token_without_weight_plays_no_part_whatever_it_holds(ratio: str, bad: float):
    log_probs, entropy, tokens = some_tokens()
    options = GrpoOptions(ratio=ratio, kl_coef=1.0, entropy_coef=1.0, dual_clip=2.0)
    unused = tokens.weights_T == 0
    clean = outcome(log_probs, entropy, tokens, options)
    spoiled = [values.masked_fill(unused, bad) for values in (log_probs, entropy, *tokens[:5])]
    spoiled[3] = tokens.weights_T
    result = outcome(spoiled[0], spoiled[1], GrpoTokens(*spoiled[2:], tokens.sequence_ids_T), options)
    for name, values in result.items():
        assert torch.equal(values, clean[name]) and (values[unused] == 0).all(), name


def test_nan_stays_in_its_own_token_and_with_ratios_of_sequences_in_its_own_sequence():
    log_probs, entropy, tokens = some_tokens()
    at = 20  # in the fourth sequence, which is tokens 16 to 24
    log_probs[at] = NAN
    assert tokens.weights_T[at] > 0
    for ratio, start, end in (("token", at, at + 1), ("sequence", 16, 25)):
        loss = outcome(log_probs, entropy, tokens, GrpoOptions(ratio=ratio))["loss"]
        expected = torch.zeros_like(loss, dtype=torch.bool)
        expected[start:end] = tokens.weights_T[start:end] > 0
        assert torch.equal(loss.isnan(), expected)


def test_a_ratio_of_a_sequence_by_hand():
    # log ratios 0.2 and 0.4 of trained tokens, 9 of a prompt: s = e^0.3 for both, below 1 + 0.4
    tokens = GrpoTokens(on_device([1, 1, 1]), on_device([0, 0.5, 0.5]), on_device([0, 0, 0]),
                        sequence_ids_T=torch.zeros(3, dtype=torch.int32, device=DEVICE))
    options = GrpoOptions(ratio="sequence", clip_high=0.4)
    ours = outcome(on_device([9.0, 0.2, 0.4]), on_device([0, 0, 0]), tokens, options)
    s = math.exp(0.3)
    assert ours["loss"].tolist() == pytest.approx([0, -s / 2, -s / 2], rel=1e-6)
    assert ours["d_log_probs"].tolist() == pytest.approx([0, -s / 2, -s / 2], rel=1e-6)
    assert ours["ratio"].tolist() == pytest.approx([0, s, s], rel=1e-6)


@pytest.mark.parametrize("lengths", [(1,), (BLOCK,), (2 * BLOCK + 1,), (1, 1, 1), (100,), (BLOCK, BLOCK, BLOCK)])
def test_sequences_of_any_length(lengths: tuple[int, ...]):
    options = GrpoOptions(ratio="sequence", kl_coef=0.1)
    for padding in (0, 3):
        assert_equals_the_reference(*some_tokens(lengths, padding), options)


def test_a_sequence_of_which_nothing_is_trained_on_is_zero_and_changes_no_other():
    log_probs, entropy, tokens = some_tokens((9, 12, 5), padding=0)
    tokens.weights_T[9:21] = 0
    options = GrpoOptions(ratio="sequence", kl_coef=0.1, entropy_coef=0.1)
    ours = outcome(log_probs, entropy, tokens, options)
    assert_equals_the_reference(log_probs, entropy, tokens, options)
    kept = torch.cat([torch.arange(9), torch.arange(21, 26)]).to(DEVICE)
    alone = outcome(log_probs[kept], entropy[kept], GrpoTokens(*(x[kept] for x in tokens)), options)
    for name, values in ours.items():
        assert (values[9:21] == 0).all() and torch.equal(values[kept], alone[name])


@pytest.mark.parametrize("ratio", ["token", "sequence"])
def test_no_tokens_one_token_and_nothing_but_tokens_without_weight(ratio: str):
    options = GrpoOptions(ratio=ratio, kl_coef=0.1, entropy_coef=0.1)
    log_probs, entropy, tokens = some_tokens()
    for part in (slice(0, 0), slice(3, 4), slice(2, 3), slice(len(log_probs) - 5, len(log_probs))):
        some = GrpoTokens(*(values[part] for values in tokens))
        assert_equals_the_reference(log_probs[part], entropy[part], some, options)
    ours = outcome(log_probs, entropy, tokens._replace(weights_T=torch.zeros_like(entropy)), options)
    assert all((values == 0).all() for values in ours.values())


def test_a_group_without_spread_has_advantage_0_and_only_the_kl_left():
    log_probs, entropy, tokens = some_tokens()
    options = GrpoOptions(kl_coef=0.1)
    flat = tokens._replace(advantages_T=torch.zeros_like(entropy))
    assert_equals_the_reference(log_probs, entropy, flat, options)
    ours = outcome(log_probs, entropy, flat, options)
    torch.testing.assert_close(ours["loss"], 0.1 * tokens.weights_T * ours["kl"])


def test_a_sequence_has_the_same_bits_wherever_it_stands_among_whatever():
    log_probs, entropy, tokens = some_tokens(padding=0)
    options = GrpoOptions(ratio="sequence", kl_coef=0.1, entropy_coef=0.1)
    everything = outcome(log_probs, entropy, tokens, options)
    places = torch.arange(len(log_probs)).split(LENGTHS)
    for chosen in ([7, 2, 0, 5], [4], [6, 3], [1, 6], range(7, -1, -1)):
        rows = torch.cat([places[i] for i in chosen]).to(DEVICE)
        some = outcome(log_probs[rows], entropy[rows], GrpoTokens(*(x[rows] for x in tokens)), options)
        assert all(torch.equal(values, everything[name][rows]) for name, values in some.items())


def test_sliced_expanded_and_wider_inputs_are_read_right():
    log_probs, entropy, tokens = some_tokens()
    wide = torch.stack([log_probs, entropy], dim=1)
    mixed = GrpoTokens(
        on_device(2.0).expand(len(entropy)), tokens.weights_T.double(), torch.cat([entropy[:1], log_probs])[1:] - 0.1,
        tokens.ref_log_probs_T.bfloat16(), tokens.importance_T.half(), tokens.sequence_ids_T.int())
    for ratio in ("token", "sequence"):
        assert_equals_the_reference(wide[:, 0], wide[:, 1], mixed, GrpoOptions(ratio=ratio, kl_coef=0.1))


@pytest.mark.parametrize(
    ("log_probs", "tokens", "message"),
    [(torch.zeros(3, dtype=torch.float64), 3, "fp64"), (torch.zeros(3).bfloat16(), 3, "bfloat16"),
     (torch.zeros(3), 2, r"advantages_T \[2\].*\[3\]")],
)
def test_what_it_cannot_do_is_refused(log_probs: Tensor, tokens: int, message: str):
    log_probs, ones = log_probs.to(DEVICE), torch.ones(tokens, device=DEVICE)
    with pytest.raises(ValueError, match=message):
        grpo_loss(log_probs, torch.zeros_like(log_probs), GrpoTokens(ones, ones, ones), GrpoOptions(), "triton")

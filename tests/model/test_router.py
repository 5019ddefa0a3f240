"""The router against transformers' and against figures worked by hand."""

import pytest
import torch
from megatron.core.transformer.moe.moe_utils import MoEAuxLossAutoScaler

from r1mega.config import ModelConfig
from r1mega.model import PolicySettings, build_policy
from r1mega.model.pack import Pack
from r1mega.model.router import Router, group_limited_top_k
from r1mega.parallel import Groups

TINY = dict(vocab_size=64, hidden_size=32, num_layers=2, num_dense_layers=1, ffn_hidden_size=32, num_attention_heads=2,
            q_lora_rank=16, kv_lora_rank=16, qk_nope_head_dim=8, qk_rope_head_dim=8, v_head_dim=8, num_experts=8,
            moe_ffn_hidden_size=16, num_experts_per_token=2, num_expert_groups=4, num_groups_per_token=2,
            max_context=64)


def a_router(groups: Groups, balance_weight: float = 0.0, **sizes: int) -> Router:
    model = ModelConfig(**{**TINY, **sizes})
    (policy,) = build_policy(model, groups, PolicySettings(sequence_balance_weight=balance_weight))
    router = policy.decoder.layers[1].mlp.router
    with torch.no_grad():
        router.weight.normal_(generator=torch.Generator().manual_seed(1))
        router.expert_bias.normal_(std=0.3, generator=torch.Generator().manual_seed(2))
    return router


@pytest.mark.parametrize("sizes", [
    dict(),  # topk // group_topk = 1: Megatron's own group score would take one expert a group
    dict(num_experts_per_token=4, num_groups_per_token=2),
    dict(num_experts=16, num_expert_groups=2, num_groups_per_token=1, num_experts_per_token=6),
    dict(num_expert_groups=1, num_groups_per_token=1, num_experts_per_token=3),
])
def test_same_experts_and_weights_as_transformers(groups: Groups, sizes: dict[str, int]):
    from transformers import DeepseekV3Config
    from transformers.models.deepseek_v3.modeling_deepseek_v3 import DeepseekV3TopkRouter

    router = a_router(groups, **sizes)
    m = ModelConfig(**{**TINY, **sizes})
    theirs = DeepseekV3TopkRouter(DeepseekV3Config(
        hidden_size=m.hidden_size, n_routed_experts=m.num_experts, num_experts_per_tok=m.num_experts_per_token,
        n_group=m.num_expert_groups, topk_group=m.num_groups_per_token, norm_topk_prob=True,
        routed_scaling_factor=m.routed_scaling_factor))
    with torch.no_grad():
        theirs.weight.copy_(router.weight)
        theirs.e_score_correction_bias.copy_(router.expert_bias)
        hidden = torch.randn(200, m.hidden_size, generator=torch.Generator().manual_seed(3))
        _, weights, chosen = theirs(hidden)
        expected = torch.zeros(200, m.num_experts).scatter_(1, chosen, weights)
        probs, routing_map = router(hidden[:, None])
    assert torch.equal(routing_map, expected > 0)
    torch.testing.assert_close(probs, expected, rtol=1e-5, atol=1e-6)


def test_a_group_scores_by_its_two_best_experts():
    # Groups of three. Group 0 has the best single expert (9) but 9 + 1 = 10; group 1 has 6 + 5 = 11; group 2 2 + 2 = 4.
    scores = torch.tensor([[9.0, 1, 1, 6, 5, 0, 2, 2, 2]])
    assert group_limited_top_k(scores, 2, 3, 1).sort().values.tolist() == [[3, 4]]


def balance_gradient(router: Router, hidden: torch.Tensor, lengths: list[list[int]]) -> torch.Tensor:
    """Gradient of the router's weight from the balance term alone, over packs of the given sequences."""
    router.weight.grad = None
    router.train()
    begin = 0
    for pack_lengths in lengths:
        edges = torch.tensor([0, *pack_lengths]).cumsum(0).int()
        router.pack = Pack.of(edges, len(pack_lengths))
        tokens = sum(pack_lengths)
        probs, _ = router(hidden[begin:begin + tokens][:, None])
        (probs * 0).sum().backward()
        begin += tokens
    return router.weight.grad.clone()


def test_balance_term_is_that_of_the_report_and_no_packing_changes_it(groups: Groups, monkeypatch: pytest.MonkeyPatch):
    # Megatron keeps the scale on the class and its schedules copy into it: put back, so that no later test sees ours.
    monkeypatch.setattr(MoEAuxLossAutoScaler, "main_loss_backward_scale", torch.ones(1))
    router = a_router(groups, balance_weight=0.5)
    hidden = torch.randn(12, 32, generator=torch.Generator().manual_seed(4))
    one_each = balance_gradient(router, hidden, [[5], [4], [3]])
    torch.testing.assert_close(balance_gradient(router, hidden, [[5, 4, 3]]), one_each, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(balance_gradient(router, hidden, [[5], [4, 3]]), one_each, rtol=1e-5, atol=1e-6)

    # arXiv 2412.19437, equations 17-20, sequence by sequence in fp64, each weighted by its length.
    weight = router.weight.detach().double().requires_grad_()
    total = torch.zeros((), dtype=torch.float64)
    for part in hidden.double().split([5, 4, 3]):
        scores = torch.sigmoid(part @ weight.T)
        chosen = group_limited_top_k((scores + router.expert_bias.double()).detach(), 2, 4, 2)
        counts = torch.bincount(chosen.flatten(), minlength=8).double()
        f = counts * 8 / (2 * len(part))
        P = (scores / scores.sum(1, keepdim=True)).mean(0)
        total = total + 0.5 * len(part) * (f * P).sum()
    total.backward()
    torch.testing.assert_close(one_each, weight.grad.float(), rtol=1e-4, atol=1e-6)


def test_padding_and_passes_without_gradient_are_not_counted(groups: Groups):
    router = a_router(groups)
    router.train()
    hidden = torch.randn(10, 32)
    router.pack = Pack.of(torch.tensor([0, 6, 10], dtype=torch.int32), num_sequences=1)  # 4 tokens of padding
    router(hidden[:, None])
    assert float(router.local_tokens_per_expert.sum()) == 6 * 2
    with torch.no_grad():
        router(hidden[:, None])
    assert float(router.local_tokens_per_expert.sum()) == 6 * 2

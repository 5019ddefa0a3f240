"""One rank: what a call leaves behind, refuses and reports."""

import pytest
import torch

from r1mega.config import LayoutConfig, UserError
from r1mega.config.head import HeadConfig
from r1mega.model import PolicySettings, build_policy
from r1mega.parallel import start, stop
from r1mega.record import SampleRequest
from r1mega.rollout import Engine, Sampling, forward
from tests.model.dense_models import LLAMA, QWEN2
from tests.rollout.layouts import MODEL, requests, trainer_log_probs


@pytest.fixture(scope="module")
def groups():
    yield start(LayoutConfig(), seed=0)
    stop()


@pytest.fixture
def chunks(groups):
    return build_policy(MODEL, groups, seed=3)


def state(chunks):
    tensors = [*chunks[0].named_parameters(), *chunks[0].named_buffers()]
    return {name: tensor.detach().clone() for name, tensor in tensors}


def test_the_model_is_left_as_it_was(chunks, groups):
    """Weights, buffers (the routers' counters among them), mode and gradients."""
    chunks[0].train()
    chunks[0].decoder.layers[1].eval()
    modes = [module.training for module in chunks[0].modules()]
    before = state(chunks)
    assert any("local_tokens_per_expert" in name for name in before)
    Engine(chunks, groups, MODEL, 4).generate(requests(9), Sampling(max_new_tokens=4))
    assert all(torch.equal(before[name], value) for name, value in state(chunks).items())
    assert [module.training for module in chunks[0].modules()] == modes
    assert torch.is_grad_enabled() and all(parameter.grad is None for parameter in chunks[0].parameters())


def test_an_error_midway_leaves_the_mode_as_it_was(chunks, groups):
    chunks[0].train()

    def fail(done, total):
        raise RuntimeError("no more")

    with pytest.raises(RuntimeError, match="no more"):
        Engine(chunks, groups, MODEL, 4).generate(requests(9), Sampling(max_new_tokens=4), fail)
    assert all(module.training for module in chunks[0].modules()) and torch.is_grad_enabled()


def test_new_weights_count_at_once(chunks, groups):
    """The engine holds no copy: a step of the trainer shows in the next call."""
    engine = Engine(chunks, groups, MODEL, 8)
    before = engine.generate(requests(6), Sampling(max_new_tokens=8))
    with torch.no_grad():
        for parameter in chunks[0].parameters():
            parameter.mul_(0.9)
    after = engine.generate(requests(6), Sampling(max_new_tokens=8))
    assert before != after
    trainer = trainer_log_probs(chunks, groups, requests(6), dict(enumerate(after)), 1.0)
    for index, completion in enumerate(after):
        assert trainer[index] == pytest.approx(completion.log_probs, abs=1e-4)


def test_progress_ends_at_the_total_and_never_goes_back(chunks, groups):
    seen = []
    Engine(chunks, groups, MODEL, 3).generate(
        requests(10), Sampling(max_new_tokens=5, stop_ids=tuple(range(20))),
        lambda *counts: seen.append(counts))
    assert [done for done, _ in seen] == sorted({done for done, _ in seen})
    assert seen[-1] == (10, 10) and {total for _, total in seen} == {10}


def test_no_requests_give_no_completions(chunks, groups):
    assert Engine(chunks, groups, MODEL, 3).generate([], Sampling(max_new_tokens=3)) == []


def test_a_request_may_fill_the_context_to_the_last_place(chunks, groups):
    prompt = tuple(range(1, 61))  # 60 + 4 = max_context
    (completion,) = Engine(chunks, groups, MODEL, 3).generate(
        [SampleRequest(prompt, 1)], Sampling(max_new_tokens=4))
    assert (len(completion.token_ids), completion.finish) == (4, "length")


@pytest.mark.parametrize(
    ("prompt", "message"),
    [
        (tuple(range(1, 62)), "61 tokens with .*max_new_tokens=4 exceeds .*max_context=64; .* at most 60"),
        ((), "a prompt has no tokens"),
    ],
)
def test_prompts_that_do_not_fit_are_refused(chunks, groups, prompt, message):
    with pytest.raises(UserError, match=message):
        Engine(chunks, groups, MODEL, 3).generate(
            [SampleRequest((1, 2), 0), SampleRequest(prompt, 1)], Sampling(max_new_tokens=4))


def test_long_prompts_are_prefilled_in_parts(chunks, groups, monkeypatch):
    """With room for 40 prompt tokens a pass, 24 ragged prompts of up to 30 tokens take many; the samples
    stay.
    """
    from r1mega.rollout import generation

    expected = Engine(chunks, groups, MODEL, 24).generate(requests(24), Sampling(max_new_tokens=6))
    monkeypatch.setattr(generation, "PREFILL_TOKENS", 40)
    got = Engine(chunks, groups, MODEL, 24).generate(requests(24), Sampling(max_new_tokens=6))
    assert [completion.token_ids for completion in got] == [completion.token_ids for completion in expected]


@pytest.mark.parametrize("model", [MODEL, QWEN2, LLAMA], ids=lambda model: model.architecture)
def test_bf16_sampling_is_as_exact_as_bf16_training(groups, model):
    """Both against the same weights in fp32: the sampler's mean error is at most twice the trainer's."""
    model = model.model_copy(update={"init_std": 0.1})
    chunks = build_policy(model, groups, PolicySettings(precision="bf16"), seed=3)
    exact = build_policy(model, groups, seed=3)
    with torch.no_grad():
        for ours, theirs in zip(exact[0].parameters(), chunks[0].parameters(), strict=True):
            ours.copy_(theirs)
    assert chunks[0].head_weight.dtype == torch.bfloat16
    got = dict(enumerate(Engine(chunks, groups, model, 8).generate(requests(24), Sampling(max_new_tokens=8))))
    truth = trainer_log_probs(exact, groups, requests(24), got, 1.0)
    trainer = trainer_log_probs(chunks, groups, requests(24), got, 1.0)
    sampler = {index: completion.log_probs for index, completion in got.items()}

    def error(log_probs):
        return sum(abs(a - b) for i in truth for a, b in zip(truth[i], log_probs[i], strict=True))

    assert 0 < error(sampler) < 2 * error(trainer)


@pytest.mark.parametrize(("fp32", "low", "high"), [(True, 0, 1e-5), (False, 1e-3, 1)])
def test_fp32_logits_are_never_rounded_to_bf16(groups, monkeypatch, fp32, low, high):
    """Log-probs against those of the same bf16 hidden states and weights in fp64."""
    chunks = build_policy(MODEL, groups, PolicySettings(precision="bf16", head=HeadConfig(fp32_logits=fp32)), seed=3)
    hidden, project = [], forward.project
    monkeypatch.setattr(forward, "project", lambda h, *others: hidden.append(h) or project(h, *others))
    (completion,) = Engine(chunks, groups, MODEL, 1).generate(requests(1), Sampling(max_new_tokens=8))
    logits = torch.cat(hidden).double() @ chunks[0].output_layer.weight[:MODEL.vocab_size].double().T
    exact = logits.log_softmax(-1)[torch.arange(8), torch.tensor(completion.token_ids)]
    error = (torch.tensor(completion.log_probs) - exact).abs().max()
    assert low <= error < high

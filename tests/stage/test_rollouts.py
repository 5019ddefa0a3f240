"""What a step's rollouts are judged by, and how they cross ranks."""

import pickle
from types import SimpleNamespace

import pytest
import torch

from r1mega.config.rl import RewardConfig
from r1mega.data import PromptSet
from r1mega.record import Completion, Problem
from r1mega.stage import rollouts
from r1mega.stage.rollouts import Collector, compact


def prompts(*scorers: str) -> PromptSet:
    return PromptSet([Problem("t", f"{scorer}?", "1", scorer) for scorer in scorers], [(1,)] * len(scorers), dropped=0)


def test_the_judge_is_told_of_held_out_problems_scorers_too(monkeypatch: pytest.MonkeyPatch):
    """Their libraries then load while the first completions are sampled, not inside the first evaluation."""
    told = []
    monkeypatch.setattr(rollouts, "Engine", lambda *args: None)
    monkeypatch.setattr(rollouts, "Judge", lambda config, template, scorers: told.append(set(scorers)))
    Collector(SimpleNamespace(
        recipe=SimpleNamespace(model=None, reward=RewardConfig(), rollout=SimpleNamespace(slots=1),
                               tokenizer=SimpleNamespace(template=None)),
        groups=SimpleNamespace(tp_rank=0, is_first_stage=True), learner=SimpleNamespace(chunks=[]),
        prepared=SimpleNamespace(train=prompts("exact", "reasoning_gym"), heldout=prompts("exact", "math"))))
    assert told == [{"exact", "reasoning_gym", "math"}]


def test_a_completion_crosses_ranks_in_eight_bytes_a_token_and_loses_nothing():
    tokens, log_probs = torch.randint(130_000, (10_000,)).tolist(), (-20 * torch.rand(10_000)).tolist()
    sent = pickle.dumps(compact(Completion(tuple(tokens), tuple(log_probs), "stop")))
    assert len(sent) < 8 * 10_000 + 500
    got = pickle.loads(sent)
    assert (list(got.token_ids), list(got.log_probs), got.finish) == (tokens, log_probs, "stop")

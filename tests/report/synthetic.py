"""Run folders made of plausible numbers, for tests only: nothing here was measured."""

import json
import math
import random
from pathlib import Path

RECIPE = """\
name = "tiny-zero"
stage = "rl"
seed = {seed}

[model]
num_layers = 4
hidden_size = 128
num_experts = 16
num_experts_per_token = 4

[layout]
expert_parallel = 2
data_parallel = 2

[[data.sources]]
kind = "reasoning_gym"
task = "chain_sum"
size = 20000

[optimizer]
lr = 3e-4
"""


def write_run(folder: Path, *, steps: int = 120, seed: int = 0, evaluate_every: int = 20) -> Path:
    """A run folder of `steps` RL steps."""
    rng = random.Random(seed)
    folder.mkdir(parents=True)
    (folder / "recipe.toml").write_text(RECIPE.format(seed=seed))
    (folder / "environment.json").write_text(json.dumps({
        "started": "2026-01-02T03:04:05+00:00", "command": ["r1mega", "run", "configs/tiny/zero.toml"],
        "world_size": 2, "devices": ["cpu"], "processor": "Example CPU", "cores": 2, "memory_gib": 24.0,
        "git_commit": "0123456789abcdef0123456789abcdef01234567", "parameters": 1_630_000,
        "packages": {"r1mega": "0.1.0", "torch": "2.11.0", "megatron-core": "0.19.2"}}))
    with (folder / "metrics.jsonl").open("w") as metrics, (folder / "samples.jsonl").open("w") as samples:
        for step in range(steps + 1):
            skill = 0.16 + 0.72 / (1 + math.exp(-(step - 0.45 * steps - 3 * seed) / (0.1 * steps + 1)))
            for record in _records(step, steps, skill, evaluate_every, rng):
                metrics.write(json.dumps(record) + "\n")
            for record in _samples(step, skill, rng):
                samples.write(json.dumps(record) + "\n")
    return folder


def _records(step: int, steps: int, skill: float, evaluate_every: int, rng: random.Random) -> list[dict]:
    def noisy(value: float, spread: float = 0.05) -> float:
        return value * (1 + rng.gauss(0, spread))

    records = []
    if step > 0:
        rate = min(max(noisy(skill, 0.1), 0.0), 1.0)
        shape = min(noisy(0.4 + 0.6 * skill, 0.02), 1.0)
        seconds = {"rollout_s": noisy(1.2 + skill), "reward_s": noisy(0.1, 0.2), "logprob_s": noisy(0.3),
                   "train_s": noisy(0.9)}
        records.append({
            "step": step, "stage": "rl", "wall_s": sum(seconds.values()) + 0.05, "tokens": 9000 + step,
            "tokens_per_s": noisy(3600), "loss": noisy(-0.002, 1.0), "mtp_loss": noisy(1.2 - 0.3 * skill),
            "grad_norm": noisy(0.4, 0.2), "lr": 3e-4 * min(step / 10, 1.0), "bad_steps": 0,
            "expert_imbalance": noisy(1.3), "reward": rate + shape, "reward_accuracy": rate,
            "reward_format": shape, "pass_rate": rate, "groups_dropped": rng.randrange(6),
            "response_tokens": noisy(40 + 90 * skill), "truncated": abs(noisy(0.08 * (1 - skill), 0.3)),
            "kl": noisy(1e-4 + 0.02 * skill, 0.1),
            "entropy": noisy(1.1 - 0.8 * skill), "clip_fraction": abs(noisy(0.01, 0.5)),
            "logprob_gap": noisy(2e-6, 0.2), **seconds})
    if step % evaluate_every == 0 or step == steps:
        rate = round(256 * min(noisy(skill, 0.03), 1.0)) / 256
        records.append({
            "step": step, "stage": "rl", "wall_s": 4.0, "evaluate_s": 4.0, "heldout_pass_at_1": rate,
            "heldout_pass_at_1_low": max(rate - 0.05, 0), "heldout_pass_at_1_high": min(rate + 0.05, 1),
            "heldout_format": min(0.4 + 0.6 * skill, 1.0), "heldout_problems": 256, "heldout_samples": 4})
    return records


def _samples(step: int, skill: float, rng: random.Random) -> list[dict]:
    records = []
    for number in range(2):
        a, b, c = (7 + number, 5, 3) if step % 20 == 0 else [rng.randrange(99) for _ in range(3)]
        right = rng.random() < skill
        answer = a + b - c
        said = answer if right else answer + rng.choice((-10, -1, 1, 10))
        text = f"<think>{a} + {b} = {a + b}\n{a + b} - {c} = {said}</think>\n<answer>{said}</answer>"
        if not right and rng.random() < 0.5:
            text = text.replace("</think>", "").replace("<answer>", "")
        records.append({
            "step": step, "split": "heldout" if step % 20 == 0 else "train", "problem": f"{a}+{b}-{c}",
            "task": "chain_sum", "question": f"State the final answer to {a} + {b} - {c} = ?",
            "answer": str(answer), "text": text, "reward": 2.0 if right else 0.5,
            "parts": {"accuracy": float(right), "format": 1.0},
            "tokens": len(text) // 2, "finish": "stop" if right else "length"})
    return records

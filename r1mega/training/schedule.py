"""The learning rate of a step."""

import math

from r1mega.config.training import OptimizerConfig


def learning_rate(config: OptimizerConfig, step: int, total_steps: int) -> float:
    """Rate of optimizer step `step` (1-based): linear warm-up, then constant or a cosine that ends at min_lr.

    >>> cosine = OptimizerConfig(lr=1.0, min_lr=0.1, schedule="cosine", warmup_steps=2)
    >>> [round(learning_rate(cosine, step, 4), 3) for step in (1, 2, 3, 4)]
    [0.5, 1.0, 0.55, 0.1]
    """
    if step <= config.warmup_steps:
        return config.lr * step / config.warmup_steps
    if config.schedule == "constant":
        return config.lr
    done = (step - config.warmup_steps) / max(1, total_steps - config.warmup_steps)
    return config.min_lr + 0.5 * (config.lr - config.min_lr) * (1 + math.cos(math.pi * min(1.0, done)))

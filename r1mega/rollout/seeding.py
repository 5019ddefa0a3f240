"""The seed of one sample."""

import hashlib
import json


def sample_seed(run_seed: int, step: int, problem_id: str, sample_index: int) -> int:
    """A 63-bit seed, the same on every machine: the first bits of SHA-256 over the four values as JSON."""
    content = json.dumps([run_seed, step, problem_id, sample_index])
    return int.from_bytes(hashlib.sha256(content.encode()).digest()[:8]) >> 1

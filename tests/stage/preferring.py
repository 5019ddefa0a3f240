"""A reward model's recipe as small as a run can be."""

import json
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]

RECIPE = """
extends = {parent}
unset = ["start"]
name = "preference"
runs_dir = {runs}

[model]
extends = {model}
num_layers = 2

[layout]
data_parallel = 1
expert_parallel = 1

[data]
heldout_problems = 40

[tokenizer]
vocab_size = 256

[preference]
samples_per_step = 32
heldout_samples = 40

[[preference.sources]]
kind = "general"
name = "general"
size = 400

[evaluation]
every = 4

[checkpoint]
every = 2
asynchronous = false

[log]
console = "plain"
tensorboard = false
"""


def write_recipe(folder: Path, kind: str = "helpfulness") -> Path:
    """folder/KIND.toml: a reward model from random weights on generated judgements."""
    path = folder / f"{kind}.toml"
    path.write_text(RECIPE.format(parent=json.dumps(str(ROOT / f"configs/tiny/reward_{kind}.toml")),
                                  model=json.dumps(str(ROOT / "configs/models/tiny.toml")),
                                  runs=json.dumps(str(folder / "runs"))))
    return path

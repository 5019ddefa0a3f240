"""A recipe as small as a run can be: seconds a run, everything on."""

import json
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]

RL = """
extends = {tiny}
stage = "rl"
name = {name}
runs_dir = {runs}
unset = ["pretrain"]

[data]
heldout_problems = 8
max_prompt_tokens = 64
[[data.sources]]
kind = "reasoning_gym"
task = "chain_sum"
options = {{ min_terms = 2, max_terms = 2, min_digits = 1, max_digits = 1 }}
size = 60

[rollout]
problems_per_step = 4
group_size = 4
max_new_tokens = 8
slots = 8

[algorithm]
mini_batches = 2
reference_interval = 2

[evaluation]
every = 3
at_start = false
at_end = false

[optimizer]
lr = 1e-3
schedule = "constant"
min_lr = 0.0
warmup_steps = 0

[train]
steps = {steps}
micro_batch_tokens = 256
mtp = "joint"

[checkpoint]
every = {every}
keep = 3

[log]
console = "plain"
tensorboard = false
samples_per_step = 1
"""


BASE = """
extends = {tiny}
name = "base"
runs_dir = {runs}
unset = ["rollout"]

[data]
heldout_problems = 8
max_prompt_tokens = 64
[[data.sources]]
kind = "reasoning_gym"
task = "chain_sum"
options = {{ min_terms = 2, max_terms = 2, min_digits = 1, max_digits = 1 }}
size = 60

[pretrain]
documents_per_step = 8

[optimizer]
warmup_steps = 1

[train]
steps = 2

[log]
tensorboard = false
"""


def write_base_recipe(folder: Path) -> Path:
    """folder/base.toml, two steps of pretraining on two ranks."""
    path = folder / "base.toml"
    path.write_text(BASE.format(tiny=json.dumps(str(ROOT / "configs/tiny/base.toml")),
                                runs=json.dumps(str(folder / "runs"))))
    return path


def write_rl_recipe(folder: Path, name: str, *, steps: int = 5, every: int = 1) -> Path:
    """folder/NAME.toml, an RL run of random weights on two ranks, into folder/runs."""
    path = folder / f"{name}.toml"
    path.write_text(RL.format(tiny=json.dumps(str(ROOT / "configs/tiny/base.toml")), name=json.dumps(name),
                              runs=json.dumps(str(folder / "runs")), steps=steps, every=every))
    return path

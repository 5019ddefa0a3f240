"""A recipe as small as a run can be: seconds a run, everything on."""

import json
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]

DATA = """
[data]
heldout_problems = 8
max_prompt_tokens = 64
[[data.sources]]
kind = "reasoning_gym"
task = "chain_sum"
options = { min_terms = 2, max_terms = 2, min_digits = 1, max_digits = 1 }
size = 60
"""


RL = """
extends = {tiny}
stage = "rl"
name = {name}
runs_dir = {runs}
unset = ["pretrain"]
{data}
[rollout]
problems_per_step = 4
group_size = 4
max_new_tokens = {tokens}
slots = 8

[algorithm]
mini_batches = 4
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

[start]
{start}
"""


BASE = """
extends = {tiny}
name = "base"
runs_dir = {runs}
unset = ["rollout"]
{data}
[pretrain]
documents_per_step = 16
styles = {{ worked = 0.5, chatter = 0.5 }}

[optimizer]
min_lr = 3e-3
warmup_steps = 2

[train]
steps = {steps}

[log]
tensorboard = false
"""


def write_base_recipe(folder: Path, steps: int = 2) -> Path:
    """folder/base.toml, pretraining on two ranks. After 40 steps most samples are well-formed."""
    path = folder / "base.toml"
    path.write_text(BASE.format(tiny=json.dumps(str(ROOT / "configs/tiny/base.toml")), data=DATA, steps=steps,
                                runs=json.dumps(str(folder / "runs"))))
    return path


def write_rl_recipe(folder: Path, name: str, *, steps: int = 5, every: int = 1, start: str = "") -> Path:
    """folder/NAME.toml, an RL run on two ranks, into folder/runs.

    `start` is a line of its section [start]. Without one the weights are random, so no answer is right or well-formed:
    all rewards are 0 and the policy term with them, and a few tokens a sample will do.
    """
    path = folder / f"{name}.toml"
    path.write_text(RL.format(tiny=json.dumps(str(ROOT / "configs/tiny/base.toml")), name=json.dumps(name), data=DATA,
                              runs=json.dumps(str(folder / "runs")), steps=steps, every=every, start=start,
                              tokens=24 if start else 8))
    return path

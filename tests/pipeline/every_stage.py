"""A pipeline with a stage of every kind, as small as it can be: seconds a stage, on one rank."""

import json
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]

BASE = """
extends = {tiny}
unset = ["data.sources"]

[layout]
data_parallel = 1
expert_parallel = 1

[data]
heldout_problems = 8
[[data.sources]]
kind = "bilingual"
size = 60
[[data.sources]]
kind = "general"
size = 40

[pretrain]
documents_per_step = 8
styles = {{ worked = 1.0 }}

[rollout]
problems_per_step = 2
group_size = 4
max_new_tokens = 12
slots = 8

[reward]
language = 0.0
target_language = "problem"

[optimizer]
warmup_steps = 0

[train]
steps = 4
micro_batch_tokens = 512

[checkpoint]
every = 2
asynchronous = false

[evaluation]
at_end = false

[log]
console = "off"
tensorboard = false
"""
RL = """
extends = "base.toml"
unset = ["pretrain"]
stage = "rl"
[algorithm]
mini_batches = 2
[train]
steps = 3
[checkpoint]
every = 1
"""
# What the micro models write passes no filter worth the name: nothing is asked of it but that it ends up somewhere.
DATA = """
extends = "rl.toml"
stage = "rejection_sampling"
[rejection]
samples = 2
problems = 8
[rejection.filters]
correct = false
form = false
complete = false
min_language = 0.0
max_clutter = 1.0
"""
SFT = """
extends = "base.toml"
unset = ["pretrain", "train.steps"]
stage = "sft"
[sft]
samples_per_step = 2
epochs = 2
overlong = "drop"
[[sft.sources]]
kind = "files"
name = "made"
paths = ["made-by-the-pipeline.jsonl"]
"""
PREFERENCE = """
extends = "base.toml"
unset = ["pretrain", "train.steps"]
stage = "preference"
[preference]
kind = "pairwise"
samples_per_step = 4
[[preference.sources]]
kind = "general"
name = "pairs"
size = 16
[train]
mtp = "off"
"""
ALL = """
extends = "rl.toml"
[reward.preference]
helpfulness = "made-by-the-pipeline"
from_step = 1
"""
EVALUATE = """
extends = "rl.toml"
stage = "evaluate"
[evaluation.suites]
paths = ["suite.toml"]
samples = 2
max_new_tokens = 8
slots = 1
"""
SUITE = """
title = "Sums"
kind = "recipe"
limit = 6
[source]
kind = "recipe"
path = "base.toml"
"""
PIPELINE = """
runs_dir = {runs}
name = "every-stage"
code = "this"

[stages.base]
recipe = "base.toml"
[stages.zero]
recipe = "rl.toml"
start = "base"
[stages.data]
recipe = "data.toml"
start = "zero"
[stages.tuned]
recipe = "sft.toml"
start = "base"
inputs = {{ "sft.sources.0.paths" = "data" }}
[stages.helpful]
recipe = "preference.toml"
start = "tuned"
[stages.r1]
recipe = "all.toml"
start = "tuned"
inputs = {{ "reward.preference.helpfulness" = "helpful" }}
[stages.evaluate]
recipe = "evaluate.toml"
each = ["base", "r1"]
"""


def write_every_stage(folder: Path) -> Path:
    """folder/pipeline.toml and its recipes, for runs into folder/runs."""
    recipes = {"base": BASE.format(tiny=json.dumps(str(ROOT / "configs/tiny/base.toml"))), "rl": RL, "data": DATA,
               "sft": SFT, "preference": PREFERENCE, "all": ALL, "evaluate": EVALUATE, "suite": SUITE,
               "pipeline": PIPELINE.format(runs=json.dumps(str(folder / "runs")))}
    for name, text in recipes.items():
        (folder / f"{name}.toml").write_text(text)
    return folder / "pipeline.toml"

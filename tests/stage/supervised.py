"""A supervised recipe as small as a run can be, and `python -m tests.stage.supervised RECIPE LEDGER KILL_AT`: a run of
it that writes down which samples every update was made from, and is killed by SIGKILL after update number KILL_AT of
this process, before anything of the step is logged or saved (0: never)."""

import json
import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]

RECIPE = """
extends = {tiny}
unset = ["pretrain", "train.steps", "rollout"]
stage = "sft"
name = "sft"
runs_dir = {runs}

[layout]
data_parallel = 1
expert_parallel = 1

[data]
heldout_problems = 4
[[data.sources]]
kind = "reasoning_gym"
task = "chain_sum"
options = {{ min_terms = 2, max_terms = 2, min_digits = 1, max_digits = 1 }}
size = 40

[sft]
epochs = 2
samples_per_step = 8
heldout_samples = 3

[[sft.sources]]
kind = "files"
name = "reasoning"
paths = ["reasoning.jsonl"]
weight = 3.0

[[sft.sources]]
kind = "files"
name = "other"
paths = ["other.jsonl"]
weight = 1.0

[optimizer]
warmup_steps = 2

[evaluation]
every = 4
at_start = true

[checkpoint]
every = 2
asynchronous = false

[log]
console = "plain"
tensorboard = false
"""


def write_recipe(folder: Path) -> Path:
    """folder/sft.toml, with 31 samples of one source and 15 of another, whose ids are what they ask."""
    for name, numbers in (("reasoning", range(31)), ("other", range(100, 115))):
        rows = [{"prompt": f"{number} + 1 =", "id": number, "source": name,
                 "response": f"<think> {number}+1={number + 1} </think> <answer> {number + 1} </answer>"}
                for number in numbers]
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    path = folder / "sft.toml"
    path.write_text(RECIPE.format(tiny=json.dumps(str(ROOT / "configs/tiny/base.toml")),
                                  runs=json.dumps(str(folder / "runs"))))
    return path


def ledger_of(run: Any, ledger: Path, kill_at: int) -> Any:
    """`run` is the stage's `train_on`; the same, with a line of the ledger a call. A sample's id is its first word, a
    judgement's all it says."""
    calls = 0

    def train_on(bench: Any, samples: Sequence[Any]) -> Any:
        nonlocal calls
        calls += 1
        decode = bench.prepared.tokenizer.decode
        texts = [decode(list(sample.token_ids)) for sample in samples]
        ids = texts if bench.recipe.stage == "preference" else [text.split(" ")[0] for text in texts]
        result = run(bench, samples)
        with ledger.open("a") as file:
            file.write(json.dumps({"step": bench.progress.step + 1, "ids": ids}) + "\n")
        if calls == kill_at:
            os.kill(os.getpid(), signal.SIGKILL)
        return result

    return train_on


def main() -> None:
    recipe, ledger, kill_at = Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3])
    from r1mega.config import load_recipe
    from r1mega.stage import preference, sft
    from r1mega.stage.run import run_recipe

    for stage in (sft, preference):
        stage.train_on = ledger_of(stage.train_on, ledger, kill_at)
    run_recipe(load_recipe(recipe), recipe)


if __name__ == "__main__":
    main()

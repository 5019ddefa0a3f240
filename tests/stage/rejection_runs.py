"""A run of rejection sampling as small as one can be, with a real model: random weights, and a vocabulary in which
whole outputs are single tokens, so that one token sampled is right, wrong or malformed by chance.
"""

import json
import os
import signal
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from r1mega.config import LayoutConfig, load_recipe
from r1mega.config.data import ChatTemplate
from r1mega.data.chat_template import save_template
from r1mega.data.train_tokenizer import train_tokenizer

ROOT = Path(__file__).resolve().parents[2]
VOCABULARY = 128
TINY = {"vocab_size": VOCABULARY, "hidden_size": 32, "num_layers": 2, "num_dense_layers": 1, "ffn_hidden_size": 32,
        "num_attention_heads": 2, "q_lora_rank": 16, "kv_lora_rank": 16, "qk_nope_head_dim": 8, "qk_rope_head_dim": 8,
        "v_head_dim": 8, "num_experts": 8, "moe_ffn_hidden_size": 16, "num_experts_per_token": 2,
        "num_expert_groups": 4, "num_groups_per_token": 2, "max_context": 4096}
POINTS = {  # what is called there: module, class, function
    "sample": ("r1mega.rollout.engine", "Engine", "generate"),
    "select": ("r1mega.stage.rejection_select", "Selector", "finish"),
    "record": ("r1mega.stage.rejection_record", "Record", "_append"),
    "metrics": ("r1mega.training.metrics", "RunLog", "append"),
    "parquet": ("r1mega.stage.rejection_dataset", None, "_write_parquet"),
    "rename": ("r1mega.stage.rejection_dataset", None, "_card"),
    "cleanup": ("r1mega.stage.rejection_journal", "Journal", "clean_up"),
}

RECIPE = """
extends = {tiny}
unset = ["pretrain", "model.yarn"]
stage = "rejection_sampling"
name = {name}
runs_dir = {runs}

[start]
model = "model"

[model]
{model}

[layout]
data_parallel = 1
expert_parallel = 1

[tokenizer]
vocab_size = {vocabulary}
[tokenizer.template]
prompt = "{{{{ question }}}}"

[data]
heldout_problems = 4
max_prompt_tokens = 100
[[data.sources]]
kind = "files"
paths = ["problems.jsonl"]
scorer = "exact"

[rollout]
max_new_tokens = 1
problems_per_step = 4
slots = 16

[rejection]
samples = 24
per_problem = 2
[rejection.filters]
complete = false

[evaluation]
every = 0

[log]
console = "plain"
tensorboard = false
samples_per_step = 1
"""


def outputs() -> list[str]:
    """Of four results: in three wordings, with a wrong equation, without reasoning, and malformed."""
    texts = []
    for result in ("one", "two", "three", "four"):
        for word in ("so", "thus we get", "therefore it must be"):
            texts.append(f"<think> counting {word} {result} </think> <answer> {result} </answer>")
            texts.append(f"<think> as counted {word} {result} </think> <answer> {result} </answer>")
        texts += [f"<think> 1+1=3 {result} </think> <answer> {result} </answer>",
                  f"<think> </think> <answer> {result} </answer>", f"it is {result}"]
    return texts


def make_model(folder: Path) -> None:
    """folder/model, ready to sample from. Starts and leaves a world of one rank."""
    from r1mega.config import ModelConfig
    from r1mega.model import PolicySettings, build_policy
    from r1mega.parallel import start, stop
    from r1mega.training.checkpoint import save_model_folder

    template = ChatTemplate(prompt="{{ question }}")
    tokenizer = train_tokenizer([question(number) for number in range(16)], 72, template)
    tokenizer._backend.add_tokens((outputs() * 2)[:VOCABULARY - tokenizer.vocab_size])
    tokenizer.save(folder / "words")
    save_template(template, folder / "words")
    groups, model = start(LayoutConfig(), seed=0), ModelConfig(**TINY)
    save_model_folder(folder / "model", build_policy(model, groups, PolicySettings(), seed=5), model, groups,
                      folder / "words")
    stop()


def question(number: int) -> str:
    return f"how many of {number} ?"


def write_recipe(folder: Path, name: str = "run", more: Mapping[str, str] | None = None, extra: str = "") -> Path:
    """folder/NAME.toml, with its problems. `more`: section to lines that go into it; `extra` goes to the end."""
    rows = [{"question": question(number), "answer": ("one", "two", "three", "four")[number % 4]}
            for number in range(16)]
    (folder / "problems.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    text = RECIPE.format(tiny=json.dumps(str(ROOT / "configs/tiny/base.toml")), name=json.dumps(name),
                         runs=json.dumps(str(folder / "runs")), vocabulary=VOCABULARY,
                         model="\n".join(f"{key} = {value}" for key, value in TINY.items()))
    for section, lines in (more or {}).items():
        text = text.replace(f"[{section}]\n", f"[{section}]\n{lines}\n", 1)
    path = folder / f"{name}.toml"
    path.write_text(text + extra)
    return path


def arm(point: str, count: int) -> None:
    """Replace the function at the point by one that counts its calls and dies at the beginning of one; of a write to
    the record, in the middle of it."""
    module_name, class_name, name = POINTS[point]
    module = __import__(module_name, fromlist=["_"])
    owner = module if class_name is None else getattr(module, class_name)
    setattr(owner, name, _deadly(getattr(owner, name), point, count))


def _deadly(function: Callable[..., Any], point: str, count: int) -> Callable[..., Any]:
    calls = 0

    def call(*args: Any, **kwargs: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == count:
            if point == "record":
                function(*args, **kwargs)
                file = args[0]._file
                file.truncate(file.seek(0, os.SEEK_END) - 7)
            os.kill(os.getpid(), signal.SIGKILL)
        return function(*args, **kwargs)

    return call


def keep_ledger(path: Path) -> None:
    """Write down which problems are sampled, and which are finished: a line of JSON a call."""
    from r1mega.stage.rejection_record import Record
    from r1mega.stage.rejection_sampler import RejectionSampler

    sample, add = RejectionSampler.sample, Record.add

    def noted(what: str, problems: list[str]) -> None:
        with path.open("a") as file:
            file.write(json.dumps([what, problems]) + "\n")

    def sample_noted(self: Any, problems: Any, *rest: Any) -> Any:
        noted("sampled", list(problems))
        return sample(self, problems, *rest)

    def add_noted(self: Any, kind: str, found: Any) -> None:
        add(self, kind, found)
        noted(kind, [one.problem for one in found])

    RejectionSampler.sample, Record.add = sample_noted, add_noted


def run_to(recipe: str, point: str, count: int) -> None:
    """A start of the run, for a rank: killed by SIGKILL when it reaches `point` for the `count`-th time (0: never).
    What it samples is written down beside the recipe."""
    from r1mega.stage.run import run_recipe

    path = Path(recipe)
    keep_ledger(path.with_suffix(".ledger"))
    if count:
        arm(point, count)
    run_recipe(load_recipe(path), path)

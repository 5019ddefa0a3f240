"""Recipes with one mistake each, as changes of one valid recipe.

A case: what is wrong, the change, and what the message must have: the key, and words of the fix. The change is a pair
(text of the recipe, its replacement), a whole new text, or overrides.
"""

from dataclasses import dataclass, field
from pathlib import Path

MODELS = Path(__file__).parents[2] / "configs/models"
VALID = """\
stage = "rl"
seed = 7

[model]
extends = "tiny.toml"

[layout]
data_parallel = 2
expert_parallel = 2

[data]
heldout_problems = 16
max_prompt_tokens = 128

[[data.sources]]
kind = "reasoning_gym"
task = "chain_sum"
size = 64

[tokenizer]
kind = "train"

[rollout]
problems_per_step = 4
group_size = 2
max_new_tokens = 64

[optimizer]
lr = 1e-3

[train]
steps = 10
precision = "fp32"
micro_batch_tokens = 512
"""


@dataclass(frozen=True)
class Case:
    name: str
    key: str  # dotted, as it must be in the message
    fix: str  # part of the message that says what to do
    old: str = ""
    new: str = ""
    overrides: tuple[str, ...] = ()
    files: dict[str, str] = field(default_factory=dict)
    at: str = "recipe.toml"  # the file the message must name

    @property
    def recipe(self) -> str:
        assert self.old in VALID
        return VALID.replace(self.old, self.new, 1) if self.old else self.new or VALID


def _line(name: str, key: str, fix: str, old: str, new: str, **more) -> Case:
    return Case(name, key, fix, old, new, **more)


def _over(name: str, key: str, fix: str, *overrides: str, **more) -> Case:
    return Case(name, key, fix, overrides=overrides, at=more.pop("at", "command line"), **more)


TYPOS = [
    _line("typo in a key", "optimizer.lrr", "did you mean 'lr'?", "lr = 1e-3", "lrr = 1e-3"),
    _line("typo in a table", "optimiser", "did you mean 'optimizer'?", "[optimizer]", "[optimiser]"),
    _line("typo in a nested table", "data.sorces", "did you mean 'sources'?", "[[data.sources]]", "[[data.sorces]]"),
    _line("typo in a stage", "stage", 'did you mean "pretrain"?', 'stage = "rl"', 'stage = "pretrian"'),
    _line("typo in a kind", "data.sources.0.kind", 'did you mean "reasoning_gym"?', '"reasoning_gym"',
          '"reasoning-gym"'),
    _line("typo in a precision", "train.precision", '"fp32", "bf16"', '"fp32"', '"fp23"'),
    _line("key of another section", "train.lr", "did you mean 'optimizer.lr'?", "steps = 10", "steps = 10\nlr = 1e-3"),
    _line("key under the wrong table", "model.seed", "above the first [table]", 'extends = "tiny.toml"',
          'extends = "tiny.toml"\nseed = 1'),
    _line("key of another kind", "data.sources.0.paths", "change kind", "size = 64", "size = 64\npaths = ['a.jsonl']"),
    _line("nothing like it", "train.zzz", "take it out", "steps = 10", "steps = 10\nzzz = 1"),
    _over("typo in an override", "train.stps", "did you mean 'steps'?", "train.stps=3"),
    _over("section left out of an override", "lr", "did you mean 'optimizer.lr'?", "lr=1e-4"),
    _over("typo in a choice of an override", "train.mtp", 'did you mean "detached"?', "train.mtp=detach"),
]

TYPES = [
    _line("number in quotes", "optimizer.lr", "take the quotes away", "lr = 1e-3", 'lr = "1e-3"'),
    _line("word for a number", "train.steps", "write a bare number", "steps = 10", 'steps = "many"'),
    _line("fraction for a count", "train.steps", "a whole number", "steps = 10", "steps = 10.5"),
    _line("float for a count", "train.steps", "write steps = 10", "steps = 10", "steps = 10.0"),
    _line("true for a count", "train.steps", "a whole number", "steps = 10", "steps = true"),
    _line("number for a text", "data.sources.0.task", 'write task = "3"', '"chain_sum"', "3"),
    _line("text for a list", "data.sources", "[[data.sources]]", '[[data.sources]]\nkind = "reasoning_gym"\n'
          'task = "chain_sum"\nsize = 64', 'sources = "chain_sum"'),
    _line("value for a table", "rollout", "write [rollout]", "[rollout]\nproblems_per_step = 4\ngroup_size = 2\n"
          "max_new_tokens = 64", "", overrides=("rollout=4",)),
    _line("date for a name", "name", "write name", "seed = 7", "seed = 7\nname = 2024-01-01"),
    _over("capital True", "evaluation.at_end", "at_end = true", "evaluation.at_end=True"),
    _over("list for a number", "train.steps", "a whole number", "train.steps=[1, 2]"),
    _over("table for a number", "optimizer.lr", "a number > 0", "optimizer.lr={a=1}"),
]

RANGES = [
    _line("zero steps", "train.steps", ">= 1", "steps = 10", "steps = 0"),
    _line("negative seed", "seed", ">= 0", "seed = 7", "seed = -7"),
    _line("seed of 64 bits", "seed", "< 2147483648", "seed = 7", "seed = 9223372036854775807"),
    _line("no learning rate", "optimizer.lr", "> 0", "lr = 1e-3", "lr = 0"),
    _line("infinite learning rate", "optimizer.lr", "a number > 0", "lr = 1e-3", "lr = inf"),
    _line("learning rate not a number", "optimizer.lr", "a number > 0", "lr = 1e-3", "lr = nan"),
    _line("group of one", "rollout.group_size", ">= 2", "group_size = 2", "group_size = 1"),
    _line("no sources", "data.sources", "at least 1", '[[data.sources]]\nkind = "reasoning_gym"\n'
          'task = "chain_sum"\nsize = 64', "sources = []"),
    _line("slash in a name", "name", "letters, digits", "seed = 7", 'seed = 7\nname = "a/b"'),
    _over("infinite count", "train.steps", "a whole number >= 1", "train.steps=inf"),
    _over("count not a number", "train.steps", "a whole number >= 1", "train.steps=nan"),
    _over("number of thousands of digits", "seed", "of 64 bits", f"seed={'1' * 5000}"),
    _over("hexadecimal number of thousands of digits", "data.sources.0.seed", "of 64 bits",
          f"data.sources.0.seed=0x{'1' * 5000}"),
    Case("number of thousands of digits in a file", "a number of thousands of digits", "take that value out",
         "seed = 7", f"seed = {'1' * 5000}"),
    Case("number beyond 64 bits in a file", "more than 64 bits", "take that value out", "seed = 7",
         "seed = 0x1_0000_0000_0000_0000"),
    _over("size of a trained tokenizer too small", "tokenizer.vocab_size", ">= 64", "tokenizer.vocab_size=8"),
    _over("top_p above 1", "rollout.top_p", "<= 1", "rollout.top_p=1.5"),
    _over("beta2 of 1", "optimizer.beta2", "< 1", "optimizer.beta2=1.0"),
    _over("two MTP layers", "model.num_mtp_layers", "<= 1", "model.num_mtp_layers=2"),
]

MISSING = [
    _line("no stage", "stage", "add it at the top", 'stage = "rl"\n', ""),
    _line("no optimizer", "optimizer", "[optimizer]", "[optimizer]\nlr = 1e-3\n", ""),
    _line("no learning rate key", "optimizer.lr", "under [optimizer]", "lr = 1e-3", ""),
    _line("no kind", "data.sources.0.kind", 'one of "reasoning_gym"', 'kind = "reasoning_gym"\n', ""),
    _line("no rollout for rl", "rollout", "add [rollout]", "[rollout]\nproblems_per_step = 4\ngroup_size = 2\n"
          "max_new_tokens = 64", ""),
    _line("no pretrain for pretrain", "pretrain", "documents_per_step = 256", 'stage = "rl"', 'stage = "pretrain"'),
    _line("no tokenizer", "tokenizer.path", 'kind = "train"', '[tokenizer]\nkind = "train"\n', ""),
    Case("empty file", "stage", "add it", new="# nothing\n"),
]

FILES = [
    _line("parent that is not there", "extends", "no such file", 'stage = "rl"', 'extends = "bse.toml"\nstage = "rl"'),
    _line("two parents", "extends", "one parent", 'stage = "rl"', 'extends = ["a.toml", "b.toml"]\nstage = "rl"'),
    _line("its own parent", "extends", "in a circle", 'stage = "rl"', 'extends = "recipe.toml"\nstage = "rl"'),
    _line("parents in a circle", "extends", "in a circle", 'stage = "rl"', 'extends = "other.toml"\nstage = "rl"',
          files={"other.toml": 'extends = "recipe.toml"'}, at="other.toml"),
    _line("section's parent that is not there", "model.extends", "did you mean", '"tiny.toml"', '"tinny.toml"'),
    _line("whole recipe as a section's parent", "model.extends", "just the keys of [model]", '"tiny.toml"',
          '"whole.toml"', files={"whole.toml": VALID}),
    _line("section's parent is a number", "model.extends", "write extends", 'extends = "tiny.toml"', "extends = 3"),
    _line("mistake in the section's parent", "model.num_layers", ">= 1", '"tiny.toml"', '"bad.toml"',
          files={"bad.toml": 'extends = "tiny.toml"\nnum_layers = 0'}, at="bad.toml:2"),
    _line("start model that is not there", "start.model", "model folder", "[optimizer]",
          '[start]\nmodel = "nowhere"\n[optimizer]'),
    _line("start recipe that is not there", "start.recipe", "no such file", "[optimizer]",
          '[start]\nrecipe = "nowhere.toml"\n[optimizer]'),
    _line("start recipe of another shape", "model.num_layers", "same [model]", "[optimizer]",
          '[start]\nrecipe = "base.toml"\n[optimizer]', at="tiny.toml:4",
          files={"base.toml": VALID.replace('extends = "tiny.toml"', 'extends = "tiny.toml"\nnum_layers = 3')}),
    _line("start recipes in a circle", "start.recipe", "starts from", "[optimizer]",
          '[start]\nrecipe = "recipe.toml"\n[optimizer]'),
    _line("data file that is not there", "data.sources.0.paths.0", "not there", '"reasoning_gym"\ntask = "chain_sum"\n'
          "size = 64", '"files"\npaths = ["none.jsonl"]'),
    _line("data file of another format", "data.sources.0.paths.0", ".jsonl or .parquet", '"reasoning_gym"\n'
          'task = "chain_sum"\nsize = 64', '"files"\npaths = ["a.csv"]', files={"a.csv": "q,a"}),
    _line("data file that is empty", "data.sources.0.paths.0", "one JSON object a line", '"reasoning_gym"\n'
          'task = "chain_sum"\nsize = 64', '"files"\npaths = ["a.jsonl"]', files={"a.jsonl": ""}),
    _over("suite that is not there", "evaluation.suites.paths.0", "a suite's .toml",
          'evaluation.suites.paths=["a.toml"]'),
    _over("start model of a name too long", "start.model", "use a shorter one", f"start.model={'a' * 5000}"),
    _over("start model with a NUL", "start.model", "take it out", 'start.model="a\\u0000b"'),
    _over("section's parent with a NUL", "model.extends", "take it out", 'model.extends="a\\u0000b"'),
    _line("parent of a name too long", "extends", "use a shorter one", 'stage = "rl"',
          f'extends = "{"a" * 5000}"\nstage = "rl"'),
    _over("name too long", "name", "use at most", f"name={'a' * 5000}"),
    _over("runs below no folder", "runs_dir", "name a folder", "runs_dir=/dev/null"),
    _over("runs nowhere", "runs_dir", 'runs_dir = "runs"', 'runs_dir=""'),
    _over("runs under a name too long", "runs_dir", "use a shorter one", f"runs_dir={'a' * 5000}"),
    _line("unset of what nobody set", "unset", "take it out", 'stage = "rl"', 'unset = ["model.yan"]\nstage = "rl"'),
]

SYNTAX = [
    _line("text without quotes", "stage = rl", '"quotes"', 'stage = "rl"', "stage = rl"),
    _line("quote not closed", 'stage = "rl', '"quotes"', 'stage = "rl"', 'stage = "rl'),
    _line("no value", "lr =", "key = value", "lr = 1e-3", "lr ="),
    _line("colon for equals", "lr: 1e-3", "key = value", "lr = 1e-3", "lr: 1e-3"),
    _line("key twice", "lr = 2e-3", "keep one", "lr = 1e-3", "lr = 1e-3\nlr = 2e-3"),
    _line("table twice", "[model]", "keep one", "[optimizer]", "[model]\n[optimizer]"),
    _line("brackets without end", "nested too deeply", "take that value out", "seed = 7", f"seed = {'[' * 3000}"),
    _line("tables in tables without end", "nested too deeply", "take that value out", "seed = 7",
          f"seed = 7\n{'a.' * 3000}b = 1"),
    _line("python's None", "seed = None", '"quotes"', "seed = 7", "seed = None"),
]

OVERRIDES = [
    _over("no value in an override", "train.steps", "write a number", "train.steps="),
    _over("no equals in an override", "train.steps", "key=value", "train.steps"),
    _over("dashes before an override", "train.steps", "command line", "--train.steps=3"),
    _over("bracket not closed", "train.steps", "[1, 2]", "train.steps=[1"),
    _over("empty key", "=3", "dotted key", "=3"),
    _over("key below a value", "train.steps.x", "write train.steps=VALUE", "train.steps.x=3"),
    _over("element beyond the list", "data.sources.5.size", "from 0 to 0", "data.sources.5.size=3"),
    _over("word into a list", "data.sources.first.size", "from 0 to 0", "data.sources.first.size=3"),
    _over("brackets without end in an override", "seed", "is not a value", f"seed={'[' * 3000}"),
    _over("element of a list taken out", "data.sources.0", "write the whole list", "data.sources.0=none"),
    _over("typo in a key taken out", "train.stps", "unknown key", "train.stps=none"),
    _over("bytes that are no text", "tokenizer.template.prompt", "is not UTF-8",
          'tokenizer.template.prompt="\udcff{{ question }}"'),
    _over("another parent", "extends", "give another recipe", "extends=other.toml"),
    _over("section's parent of an override", "model.extends", "no such file", "model.extends=none.toml"),
]

LAYOUTS = [
    _over("heads do not divide", "layout.tensor_parallel", "use 1, 2 or 4", "layout.tensor_parallel=3",
          "train.micro_batch_tokens=513"),
    _over("experts do not divide", "layout.expert_parallel", "use 1, 2 or 4", "layout.expert_parallel=3",
          "layout.data_parallel=4"),
    _over("experts over too few ranks", "layout.expert_parallel", "data_parallel=4", "layout.expert_parallel=4"),
    _over("expert tensors do not divide", "layout.expert_tensor_parallel", "moe_ffn_hidden_size",
          "layout.expert_tensor_parallel=3", "layout.data_parallel=6", "rollout.problems_per_step=6"),
    _over("context parallel", "layout.context_parallel", "legal: 1", "layout.context_parallel=2"),
    _over("more stages than layers", "layout.pipeline_parallel", "at most 5", "layout.pipeline_parallel=6"),
    _over("virtual stages without a pipeline", "layout.virtual_stages", "pipeline_parallel to 2",
          "layout.virtual_stages=2"),
    _over("layout text without a pipeline", "layout.pipeline_layout", "take it out", "layout.pipeline_layout=EttttmL"),
    _over("layout of too few stages", "layout.pipeline_layout", "write 1 bars", "layout.pipeline_parallel=2",
          "layout.pipeline_layout=EttttmL"),
    _over("layout of too few layers", "layout.pipeline_layout", "write 4 of them", "layout.pipeline_parallel=2",
          "layout.pipeline_layout='Et|tmL'"),
    _over("layout without MTP", "layout.pipeline_layout", "write 1 of them", "layout.pipeline_parallel=2",
          "layout.pipeline_layout='Ett|ttL'"),
    _over("layout with MTP before the loss' stage", "layout.pipeline_layout", "next to the L",
          "layout.pipeline_parallel=2", "layout.pipeline_layout='Ettttm|L'"),
    _over("layout with the loss in the middle", "layout.pipeline_layout", "L last", "layout.pipeline_parallel=2",
          "layout.pipeline_layout='EttL|ttm'"),
    _over("layout with a foreign letter", "layout.pipeline_layout", "take it out", "layout.pipeline_parallel=2",
          "layout.pipeline_layout='Ettx|ttmL'"),
    _over("layout with an empty stage", "layout.pipeline_layout", "at least one letter", "layout.pipeline_parallel=3",
          "layout.pipeline_layout='Ett||ttmL'"),
]

FIT = [
    _over("groups do not divide the experts", "model.num_expert_groups", "one of 1, 2, 4", "model.num_expert_groups=3"),
    _over("more groups a token than groups", "model.num_groups_per_token", "use 1 to 4",
          "model.num_groups_per_token=5"),
    _over("more experts a token than its groups have", "model.num_experts_per_token", "use 1 to 4",
          "model.num_experts_per_token=5"),
    _over("groups of one expert", "model.num_expert_groups", "one of 1, 2, 4", "model.num_expert_groups=8"),
    _over("odd rope", "model.qk_rope_head_dim", "use e.g. 16", "model.qk_rope_head_dim=15"),
    _over("more dense layers than layers", "model.num_dense_layers", "use 0 to 4", "model.num_dense_layers=5"),
    _over("key of another architecture", "model.head_dim", "take it out", "model.head_dim=32"),
    _over("V3's keys in a dense model", "model.num_dense_layers", 'only for "deepseek_v3"',
          'model.architecture="llama"', "model.num_key_value_heads=2", "model.head_dim=32", at="tiny.toml"),
    _line("dense model without its keys", "model.num_key_value_heads", "add it under [model]", 'extends = "tiny.toml"',
          'architecture = "qwen2"\nvocab_size = 256\nhidden_size = 64\nnum_layers = 2\nffn_hidden_size = 64\n'
          "num_attention_heads = 4"),
    _line("V3 without its keys", "model.q_lora_rank", "add it under [model]", 'extends = "tiny.toml"',
          "vocab_size = 256\nhidden_size = 64\nnum_layers = 2\nffn_hidden_size = 64\nnum_attention_heads = 4\n"
          "num_dense_layers = 1"),
    _over("key heads do not divide the query heads", "model.num_key_value_heads", "use one of 1, 2, 4",
          f"model.extends={MODELS}/tiny_llama.toml", "model.num_key_value_heads=3", "layout.expert_parallel=1"),
    _over("more ranks than key heads", "layout.tensor_parallel", "use 1 or 2",
          f"model.extends={MODELS}/tiny_llama.toml", "layout.tensor_parallel=4", "layout.expert_parallel=1"),
    _over("experts of a dense model", "layout.expert_parallel", "use 1", f"model.extends={MODELS}/tiny_llama.toml",
          at="recipe.toml"),
    _over("mixed wavelengths the wrong way round", "model.llama3_rope.high_freq_factor", "more than low_freq_factor",
          f"model.extends={MODELS}/tiny_llama.toml", "model.llama3_rope.high_freq_factor=1.0"),
    _over("context beyond YaRN", "model.max_context", "at most 512", "model.max_context=1024"),
    _over("response longer than the context", "rollout.max_new_tokens", "at most 384", "rollout.max_new_tokens=385"),
    _over("MTP without its layer", "train.mtp", 'use "off"', "model.num_mtp_layers=0", at="recipe.toml"),
    _over("pack not cut by sequence parallelism", "train.micro_batch_tokens", "use 514", "layout.tensor_parallel=2",
          "train.micro_batch_tokens=513"),
    _over("problems not shared out evenly", "rollout.problems_per_step", "use 6", "rollout.problems_per_step=5"),
    _over("more mini-batches than outputs", "algorithm.mini_batches", "at most 8", "algorithm.mini_batches=9"),
    _over("all problems held out", "data.heldout_problems", "less than 64", "data.heldout_problems=64"),
    _line("all bilingual problems held out", "data.heldout_problems", "the sources have 16 problems",
          '"reasoning_gym"\ntask = "chain_sum"\nsize = 64', '"bilingual"\nsize = 8'),
    _over("evaluation of no suite", "evaluation.suites.paths", "own-maths.toml", "stage=evaluate",
          "start.recipe=recipe.toml", at="recipe.toml"),
    _over("evaluation of no model", "start.model", "name a model folder", "stage=evaluate",
          'evaluation.suites.paths=["tiny.toml"]', at="recipe.toml"),
    _over("too few problems for a step", "rollout.problems_per_step", "at most 48", "rollout.problems_per_step=50"),
    _over("no reward at all", "reward.accuracy", "set one of them", "reward.accuracy=0", "reward.format=0"),
    _over("warm-up longer than the run", "optimizer.warmup_steps", "at most 10", "optimizer.warmup_steps=11"),
    _over("floor above the learning rate", "optimizer.min_lr", "at most 0.001", "optimizer.min_lr=0.1"),
    _over("prompt without the question", "tokenizer.template.prompt", "{{ question }}",
          "tokenizer.template.prompt=hello"),
    _over("prompt of another variable", "tokenizer.template.prompt", "{{ question }}",
          'tokenizer.template.prompt="{{ question }} {{ system }}"'),
    _over("prompt that is no template", "tokenizer.template.prompt", "{{ question }}",
          'tokenizer.template.prompt="{% if %}"'),
    _over("thinking not opened in the prompt", "tokenizer.template.think_in_prompt", "use false",
          "tokenizer.template.think_in_prompt=true"),
    _over("equal tags", "tokenizer.template.think_open", "<think>", 'tokenizer.template.think_open="</think>"'),
    _over("path of a trained tokenizer", "tokenizer.path", "take it out", "tokenizer.path=some"),
    _over("tokenizer larger than the model", "tokenizer.vocab_size", "at most that", "tokenizer.vocab_size=300"),
    _over("two starts", "start.model", "keep one", "start.model=a", "start.recipe=b"),
    _over("evaluations without held-out problems", "evaluation.every", "heldout_problems = 256", "evaluation.every=5",
          "data.heldout_problems=0"),
    _over("pretrain section for rl", "pretrain", "take the section out", "pretrain.documents_per_step=64"),
    _over("fewer documents than replicas", "pretrain.documents_per_step", "at least 2", "stage=pretrain",
          "pretrain.documents_per_step=1", "pretrain.styles.worked=1.0"),
    _over("no style of documents", "pretrain.styles", "worked = 1.0", "stage=pretrain", "pretrain.documents_per_step=8",
          at="recipe.toml"),
    _over("negative share of a style", "pretrain.styles.plain", "leave the style out", "stage=pretrain",
          "pretrain.documents_per_step=8",
          "pretrain.styles.plain=-1.0"),
]

REJECTION = [
    _over("no rejection section", "rejection", "add [rejection] with samples = 16", "stage=rejection_sampling",
          at="recipe.toml"),
    _over("rejection section for rl", "rejection", "take the section out", "rejection.samples=4"),
    _over("nothing to sample from", "start", "set start.model to a model folder", "stage=rejection_sampling",
          "rejection.samples=4", at="recipe.toml"),
    _over("more rows than samples", "rejection.per_problem", "use at most that", "stage=rejection_sampling",
          "rejection.samples=4", "rejection.per_problem=5"),
    _over("rewriting what is written already", "rejection.rewrite", 'reward.form = "answer"',
          "stage=rejection_sampling", "rejection.rewrite=rules", "reward.form=summary"),
    _over("judge without a kind", "rejection.judge.kind", '"openai", "model"', "stage=rejection_sampling",
          "rejection.judge.model=m"),
    _over("judge at no address", "rejection.judge.base_url", '"http://localhost:8000/v1"', "stage=rejection_sampling",
          "rejection.judge={kind='openai', base_url='localhost:8000', model='m'}"),
    _over("key for its variable", "rejection.judge.key_variable", '"JUDGE_KEY"', "stage=rejection_sampling",
          "rejection.judge={kind='openai', base_url='http://localhost', model='m', key_variable='sk-123'}"),
    _over("judge that is not there", "rejection.judge.path", "has no model.json", "stage=rejection_sampling",
          "rejection.judge={kind='model', path='nowhere'}"),
    _over("nothing to decontaminate with", "rejection.decontaminate.0", "is not there", "stage=rejection_sampling",
          "rejection.decontaminate=['exam.toml']"),
    _over("samples with a weight", "rejection.files.0.weight", "take it out", "stage=rejection_sampling",
          "rejection.files=[{kind='files', name='a', paths=['a.jsonl'], weight=1.0}]"),
    _over("a judge asked in rl", "data.sources.0.scorer", 'use "math" or "exact"',
          "data.sources=[{kind='files', paths=['a.jsonl'], scorer='judge'}]"),
    _over("nobody to judge", "data.sources.0.scorer", "add [rejection.judge]", "stage=rejection_sampling",
          "rejection.samples=4", "data.sources=[{kind='files', paths=['a.jsonl'], scorer='judge'}]"),
]

CASES = [*TYPOS, *TYPES, *RANGES, *MISSING, *FILES, *SYNTAX, *OVERRIDES, *LAYOUTS, *FIT, *REJECTION]

"""What no single section can see: sections that do not fit each other, and files that are not there."""

from collections.abc import Iterator
from pathlib import Path

import jinja2
import jinja2.meta

from r1mega.config.check_layout import check_layout
from r1mega.config.check_rejection import check_rejection, check_rejection_files, check_rejection_models
from r1mega.config.data import (
    DATA_ENDINGS,
    BilingualSource,
    ChatTemplate,
    FilesSource,
    ReasoningGymSource,
    TokenizerConfig,
)
from r1mega.config.error import Mistake
from r1mega.config.paths import check_run_folder, check_run_folder_can_be_made
from r1mega.config.preference import PreferenceFiles
from r1mega.config.recipe import WITHOUT_MODEL, Recipe
from r1mega.config.sft import SampleFiles

SHAPE_FREE = {"init_std", "max_context"}  # a model may differ in these from the one it starts from


def check_recipe(recipe: Recipe) -> Iterator[Mistake]:
    """Yield a Mistake for every pair of values that cannot work together. Looks at no file."""
    yield from check_run_folder(recipe)
    yield from check_layout(recipe.model, recipe.layout)
    yield from _check_stage(recipe)
    yield from _check_lengths(recipe)
    yield from _check_tokenizer(recipe.tokenizer, recipe)
    yield from _check_template(recipe.tokenizer.template)
    yield from _check_batches(recipe)
    yield from _check_data(recipe)
    yield from _check_training(recipe)
    yield from check_rejection(recipe)


def check_files(recipe: Recipe) -> Iterator[Mistake]:
    """Yield a Mistake for every file or folder the recipe names that is not there."""
    teacher = recipe.sft.teacher if recipe.sft is not None else None
    for key, folder in (("start.model", recipe.start.model), ("sft.teacher.model", teacher and teacher.model)):
        if folder is not None and not Path(folder, "model.json").is_file():
            there = "has no model.json" if Path(folder).is_dir() else "is not there"
            yield Mistake(key, f"the folder {there}; name a model folder (`r1mega import` makes one) or a run's "
                               "checkpoints/step-N")
    for index, source in enumerate(recipe.data.sources):
        if isinstance(source, FilesSource):
            for number, path in enumerate(source.paths):
                yield from _check_data_file(f"data.sources.{index}.paths.{number}", Path(path))
    for section in ("sft", "preference"):
        samples = getattr(recipe, section)
        for index, source in enumerate(samples.sources if samples is not None else ()):
            if isinstance(source, SampleFiles | PreferenceFiles):
                for number, path in enumerate(source.paths):
                    yield from _check_data_file(f"{section}.sources.{index}.paths.{number}", Path(path))
    for number, path in enumerate(recipe.evaluation.suites.paths):
        if not Path(path).is_file():
            there = "is a folder" if Path(path).is_dir() else "is not there"
            yield Mistake(f"evaluation.suites.paths.{number}", f"the file {there}; a path is relative to the file that "
                                                               "sets it; name a suite's .toml file")
    for key, path in check_rejection_files(recipe):
        yield from _check_data_file(key, path)
    yield from check_rejection_models(recipe)
    yield from check_run_folder_can_be_made(recipe)


def check_start(recipe: Recipe, start: Recipe) -> Iterator[Mistake]:
    """Yield a Mistake where the recipe cannot go on from the model that `start` trains."""
    if start.stage in WITHOUT_MODEL:
        yield Mistake("start.recipe", f'is of stage "{start.stage}", which leaves no model; name one that trains')
    if start.stage == "preference" != recipe.stage:
        yield Mistake("start.recipe", 'is of stage "preference", which makes a reward model of a policy; name the '
                                      "recipe of a policy")
    ours, theirs = recipe.model.model_dump(), start.model.model_dump()
    differ = [name for name in ours if name not in SHAPE_FREE and ours[name] != theirs.get(name)]
    if differ:
        name = differ[0]
        value = "" if isinstance(ours[name], dict) else f"={theirs.get(name)}"
        yield Mistake(f"model.{name}", f"start.recipe trains a model with another {name}{value}; use the same "
                                       "[model] in both recipes")
    if recipe.tokenizer.template != start.tokenizer.template:
        yield Mistake("tokenizer.template", "is not that of start.recipe, whose model knows no other; "
                                            "use the same in both recipes")


def _check_stage(recipe: Recipe) -> Iterator[Mistake]:
    if recipe.stage == "rl" and recipe.rollout is None:
        yield Mistake("rollout", 'is missing, and stage="rl" samples; add [rollout] with max_new_tokens = 256')
    if recipe.stage == "pretrain" and recipe.pretrain is None:
        yield Mistake("pretrain", 'is missing, and stage="pretrain" needs it; add it with documents_per_step = 256')
    if recipe.stage == "sft" and recipe.sft is None:
        yield Mistake("sft", 'is missing, and stage="sft" needs it; add [[sft.sources]] with kind, name and paths')
    if recipe.stage == "preference" and recipe.preference is None:
        yield Mistake("preference", 'is missing, and stage="preference" needs it; add kind = "pairwise" and '
                                    "[[preference.sources]]")
    if recipe.stage == "preference" and recipe.train.mtp != "off":
        yield Mistake("train.mtp", 'a reward model predicts no tokens; use "off"')
    if recipe.stage == "preference" and recipe.model.tied_embeddings and recipe.layout.pipeline_parallel > 1:
        yield Mistake("layout.pipeline_parallel", "the last stage keeps a copy of tied embeddings as a head, which a "
                                                  "reward model does not train; use 1")
    if recipe.stage == "evaluate" and not recipe.evaluation.suites.paths:
        yield Mistake("evaluation.suites.paths", 'names no suite, and stage="evaluate" does nothing else; add e.g. '
                                                 '["../suites/own-maths.toml"]')
    if recipe.stage == "evaluate" and recipe.start.model is None and recipe.start.recipe is None:
        yield Mistake("start.model", f'is missing, and stage="{recipe.stage}" trains none; name a model folder or a '
                                     "run's checkpoint, or set start.recipe")
    for name, stage in (("pretrain", "pretrain"), ("sft", "sft"), ("preference", "preference"),
                        ("rejection", "rejection_sampling")):
        if recipe.stage != stage and getattr(recipe, name) is not None:
            yield Mistake(name, f'has no meaning for stage="{recipe.stage}"; take the section out, or use stage = '
                                f'"{stage}"')
    if recipe.stage not in ("sft", "preference", *WITHOUT_MODEL) and recipe.train.steps is None:
        yield Mistake("train.steps", "is missing; legal: a whole number >= 1; add it under [train]")
    if recipe.start.model is not None and recipe.start.recipe is not None:
        yield Mistake("start.model", "start.recipe is set too, and weights come from one place; keep one of them "
                                     "(start.recipe=none on the command line takes the other out)")
    samples = recipe.sft or recipe.preference
    heldout_loss = recipe.preference is not None or (samples is not None and samples.heldout_samples > 0)
    if recipe.evaluation.every > 0 and recipe.rollout is None and not heldout_loss:
        yield Mistake("evaluation.every", "evaluations sample, and there is no [rollout]; use 0, or add [rollout]")
    if recipe.evaluation.every > 0 and recipe.data.heldout_problems == 0 and not heldout_loss:
        yield Mistake("evaluation.every", "evaluations use held-out problems, and data.heldout_problems=0; use 0, or "
                                          "set data.heldout_problems = 256")
    if recipe.stage == "rl" and recipe.reward.accuracy == 0 and recipe.reward.format == 0:
        yield Mistake("reward.accuracy", "reward.format is 0 too, so no answer earns anything; set one of them > 0")


def _check_lengths(recipe: Recipe) -> Iterator[Mistake]:
    model, rollout = recipe.model, recipe.rollout
    if model.yarn is not None and model.max_context > model.yarn.factor * model.yarn.original_context:
        reach = int(model.yarn.factor * model.yarn.original_context)
        yield Mistake("model.max_context", f"is beyond model.yarn's factor x original_context = {reach}; use at most "
                                           f"{reach}, or a larger model.yarn.factor")
    for name in ("sft", "preference"):
        samples = getattr(recipe, name)
        if samples is None or samples.max_tokens is None or samples.max_tokens <= model.max_context:
            continue
        yield Mistake(f"{name}.max_tokens", f"is more than model.max_context={model.max_context}; use at most that, "
                                            "or a larger model.max_context")
    prompt = recipe.data.max_prompt_tokens
    if rollout is not None and prompt + rollout.max_new_tokens > model.max_context:
        room = model.max_context - prompt
        fix = f"use at most {room}" if room > 0 else f"set data.max_prompt_tokens below {model.max_context}"
        yield Mistake("rollout.max_new_tokens", f"with data.max_prompt_tokens={prompt} is more than "
                                                f"model.max_context={model.max_context}; {fix}, or a larger "
                                                "model.max_context")


def _check_tokenizer(tokenizer: TokenizerConfig, recipe: Recipe) -> Iterator[Mistake]:
    if tokenizer.kind == "huggingface":
        if tokenizer.path is None:
            yield Mistake("tokenizer.path", 'is missing, and kind="huggingface" needs a folder or hub name; add path, '
                                            'or use kind = "train"')
        if tokenizer.vocab_size is not None:
            yield Mistake("tokenizer.vocab_size", 'only a trained tokenizer has a size to choose; take it out, or use '
                                                  'tokenizer.kind = "train"')
        return
    if tokenizer.path is not None:
        yield Mistake("tokenizer.path", 'kind="train" makes its own in the run\'s folder; take it out, or use '
                                        'tokenizer.kind = "huggingface"')
    if tokenizer.vocab_size is not None and tokenizer.vocab_size > recipe.model.vocab_size:
        yield Mistake("tokenizer.vocab_size", f"is more than model.vocab_size={recipe.model.vocab_size}; use at most "
                                              "that, or a larger model.vocab_size")


def _check_template(template: ChatTemplate) -> Iterator[Mistake]:
    yield from _check_prompt("tokenizer.template.prompt", template.prompt, template)
    if template.next_prompt is not None:
        yield from _check_prompt("tokenizer.template.next_prompt", template.next_prompt, template)


def _check_prompt(key: str, prompt: str, template: ChatTemplate) -> Iterator[Mistake]:
    try:
        names = jinja2.meta.find_undeclared_variables(jinja2.Environment().parse(prompt))
    except jinja2.TemplateSyntaxError as error:
        yield Mistake(key, f"is not a jinja2 template ({error.message}); write {{{{ question }}}} for the question")
        return
    if "question" not in names:
        yield Mistake(key, "never shows the question; write {{ question }} where it belongs")
    if names - {"question"}:
        yield Mistake(key, f"uses '{min(names - {'question'})}', but only question is there; write {{{{ question }}}}")
    if template.think_in_prompt and not prompt.rstrip().endswith(template.think_open):
        yield Mistake("tokenizer.template.think_in_prompt", "the prompt does not end with think_open="
                      f'"{template.think_open}"; use false, or end the prompt with it')


def _check_batches(recipe: Recipe) -> Iterator[Mistake]:
    layout, rollout = recipe.layout, recipe.rollout
    if recipe.train.micro_batch_tokens % layout.tensor_parallel:
        fit = -(-recipe.train.micro_batch_tokens // layout.tensor_parallel) * layout.tensor_parallel
        yield Mistake("train.micro_batch_tokens", "must be a multiple of layout.tensor_parallel="
                      f"{layout.tensor_parallel} (sequence parallelism cuts a pack in equal parts); use {fit}")
    if recipe.pretrain is not None and recipe.pretrain.documents_per_step < layout.data_parallel:
        yield Mistake("pretrain.documents_per_step", f"is less than layout.data_parallel={layout.data_parallel}, so "
                                                     "some replicas would read nothing; use at least "
                                                     f"{layout.data_parallel}")
    if recipe.sft is not None and recipe.sft.samples_per_step < layout.data_parallel:
        yield Mistake("sft.samples_per_step", f"is less than layout.data_parallel={layout.data_parallel}, so some "
                                              f"replicas would train on nothing; use at least {layout.data_parallel}")
    if recipe.preference is not None and recipe.preference.samples_per_step < layout.data_parallel:
        yield Mistake("preference.samples_per_step", f"is less than layout.data_parallel={layout.data_parallel}, so "
                                                     "some replicas would train on nothing; use at least "
                                                     f"{layout.data_parallel}")
    if recipe.stage != "rl" or rollout is None:
        return
    if rollout.problems_per_step % layout.data_parallel:
        fit = -(-rollout.problems_per_step // layout.data_parallel) * layout.data_parallel
        yield Mistake("rollout.problems_per_step", f"layout.data_parallel={layout.data_parallel} does not divide it, "
                                                   "and every replica rolls out whole problems, equally many; "
                                                   f"use {fit}")
    outputs = rollout.problems_per_step * rollout.group_size
    if recipe.algorithm.mini_batches > outputs:
        yield Mistake("algorithm.mini_batches", f"is more than the {outputs} outputs of a step (problems_per_step x "
                                                f"group_size); use at most {outputs}")


def _check_data(recipe: Recipe) -> Iterator[Mistake]:
    """Generated problems are countable beforehand (equal ones fall together later, which only makes them fewer)."""
    sources = recipe.data.sources
    if not all(isinstance(source, ReasoningGymSource | BilingualSource) for source in sources):
        return
    total = sum(source.size * (len(source.languages) if isinstance(source, BilingualSource) else 1)
                for source in sources)
    left = total - recipe.data.heldout_problems
    if left < 1:
        yield Mistake("data.heldout_problems", f"leaves nothing to train on: the sources have {total} problems; use "
                                               f"less than {total}, or a larger data.sources.0.size")
    elif recipe.stage == "rl" and recipe.rollout is not None and left < recipe.rollout.problems_per_step:
        yield Mistake("rollout.problems_per_step", f"only {left} problems are left to train on ({total} less "
                                                   f"data.heldout_problems); use at most {left}, or a larger "
                                                   "data.sources.0.size")


def _check_training(recipe: Recipe) -> Iterator[Mistake]:
    if recipe.model.num_mtp_layers == 0 and recipe.train.mtp != "off":
        yield Mistake("train.mtp", 'model.num_mtp_layers=0, so there is nothing to train; use "off"')
    if recipe.train.steps is not None and recipe.optimizer.warmup_steps > recipe.train.steps:
        yield Mistake("optimizer.warmup_steps", f"is more than train.steps={recipe.train.steps}, so lr would never be "
                                                f"reached; use at most {recipe.train.steps}")
    if recipe.pretrain is not None and not recipe.pretrain.styles:
        yield Mistake("pretrain.styles", "says no way to write documents; add e.g. styles = { worked = 1.0 }")
    for name, share in (recipe.pretrain.styles if recipe.pretrain is not None else {}).items():
        if share <= 0:
            yield Mistake(f"pretrain.styles.{name}", "a share is > 0; leave the style out instead")


def _check_data_file(key: str, path: Path) -> Iterator[Mistake]:
    if not path.is_file():
        there = "is a folder" if path.is_dir() else "is not there"
        yield Mistake(key, f"the file {there}; a path is relative to the file that sets it; name a .jsonl or .parquet")
    elif path.suffix not in DATA_ENDINGS:
        yield Mistake(key, f"'{path.suffix}' is no format we read; use a .jsonl or .parquet file (legal endings: "
                           f"{', '.join(DATA_ENDINGS)})")
    elif path.stat().st_size == 0:
        yield Mistake(key, "the file is empty; put one JSON object a line into it")

"""Data and tokenizer of a run, made once, before any rank starts, so that what is wrong with them is said at once."""

import hashlib
import json
import random
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from r1mega.config import Recipe, UserError
from r1mega.config.data import DataConfig
from r1mega.data import (
    PromptSet,
    Split,
    Tokenizer,
    check_step_size,
    encode_prompts,
    load_problems,
    render_prompt,
    split,
    train_tokenizer,
)
from r1mega.data.chat_template import save_template
from r1mega.data.corpus import check_styles, document
from r1mega.data.sft_store import SampleStore
from r1mega.data.split import same_question
from r1mega.record import Problem
from r1mega.stage.chain import Link, checkpoints
from r1mega.stage.made_from import changed_file, made_from
from r1mega.stage.preference_data import prepare_judgements
from r1mega.stage.rejection_plan import FOLDER as REJECTION
from r1mega.stage.rejection_plan import RejectionPlan, check_model, plan_rejection, read_plan
from r1mega.stage.reward_model_folder import check_reward_models
from r1mega.stage.rl_data import check_problems
from r1mega.stage.same_run import check_same_run
from r1mega.stage.sft_data import FOLDER, describe, prepare_samples, sample_texts, sources_of, with_steps
from r1mega.stage.suite_load import load_checked

TOKENIZER_TEXTS = 2000  # enough to meet every character and every recurring word
NAMES = ("train.jsonl", "heldout.jsonl")


@dataclass(frozen=True)
class Prepared:
    """What the ranks of a run read."""

    train: PromptSet
    heldout: PromptSet
    tokenizer: Tokenizer
    tokenizer_dir: Path
    samples: SampleStore | None = None
    """Of a supervised stage, or of a reward model's (see preference_data.py)."""


@dataclass(frozen=True)
class Origin:
    """What a run has from the one before it: the words its model knows, and the questions it was trained on."""

    tokenizer: Tokenizer | None
    questions: frozenset[str]
    data: DataConfig | None = None
    problems: Split | None = None
    """Of `data`: a run with the same sources need not make its problems again, which can take long."""

    def digest(self) -> str:
        words = "" if self.tokenizer is None else self.tokenizer.digest()
        return hashlib.sha256("\0".join([words, *sorted(self.questions)]).encode()).hexdigest()


def prepare_chain(links: Sequence[Link], write: bool = True) -> list[Link]:
    """Make or find the data and the tokenizer of every run of a chain. `write` False: only make and check. The links
    come back with the number of steps where the data decide it.

    Raises UserError for whatever is wrong with sources, template, tokenizer or prompts, and where a run was started
    with another recipe or other data.
    """
    origin, planned = None, []
    for link in links:
        check_same_run(link.recipe, link.run_dir)
        if link.recipe.stage == "evaluate":
            suites = link.recipe.evaluation.suites
            for path in () if write else suites.paths:  # whoever evaluates reads them at once
                load_checked(Path(path), suites.seed, link.recipe.reward)
            planned.append(link)
            continue
        try:
            origin, found = _prepare(link, origin, write)
            planned.append(_planned(link, found))
        except OSError as error:
            raise UserError(f"{error.filename or link.run_dir}: {error.strerror or error}; the run's data cannot be "
                            "kept there") from None
    return planned


def load_prepared(recipe: Recipe, run_dir: Path) -> Prepared:
    """Read what `prepare_chain` wrote."""
    tokenizer = Tokenizer.load(run_dir / "tokenizer")
    train, heldout = (_encode(recipe, problems, tokenizer) for problems in _read(run_dir))
    samples = _read_samples(run_dir) if sources_of(recipe)[1] else None
    return Prepared(train, heldout, tokenizer, run_dir / "tokenizer", samples)


def _planned(link: Link, found: SampleStore | RejectionPlan | None) -> Link:
    """With what its data say: of a supervised stage the number of steps."""
    match found:
        case SampleStore():
            return replace(link, recipe=with_steps(link.recipe, found), data=describe(link.recipe, found))
        case RejectionPlan():
            return replace(link, data=found.describe())
    return link


def _prepare(link: Link, origin: Origin | None, write: bool) -> tuple[Origin, SampleStore | RejectionPlan | None]:
    """One run's share of `prepare_chain`: what the next run has from it, and the samples of a supervised stage, or what
    rejection sampling is to sample."""
    recipe, run_dir = link.recipe, link.run_dir
    if recipe.stage == "rejection_sampling":
        check_model(recipe, link.path)
    if recipe.start.model is not None and not link.goes_on:
        origin = _origin_of(Path(recipe.start.model))
    stamp = run_dir / "data" / "made_from.json"
    wanted = made_from(recipe, link.path.parent, None if origin is None else origin.digest())
    if link.goes_on and (changed := changed_file(stamp, wanted)):
        raise UserError(f"{run_dir}: was started with other contents of {changed}; put them back, or set name=... for "
                        f"a new run of {recipe.name} (or remove {run_dir})")
    if stamp.exists() and (link.goes_on or stamp.read_text(encoding="utf-8") == wanted):
        problems, tokenizer = _read(run_dir), Tokenizer.load(run_dir / "tokenizer")
        samples = _read_samples(run_dir) if sources_of(recipe)[1] else None
        plan = read_plan(run_dir / "data" / REJECTION) if recipe.rejection else None
    else:
        problems = _problems(link, origin)
        tokenizer = _tokenizer(link, problems.train, origin)
        train = _check(recipe, problems, tokenizer, origin)
        if write:
            stamp.unlink(missing_ok=True)
        plan = None if recipe.rejection is None else plan_rejection(
            recipe, link.path.parent, train, problems.heldout, run_dir / "data" / REJECTION if write else None)
        prepare = prepare_samples if recipe.preference is None else prepare_judgements
        samples = None if sources_of(recipe)[1] is None else prepare(
            recipe, link.path.parent, tokenizer, set(map(same_question, problems.heldout)),
            run_dir / "data" / FOLDER if write else None)
        if write:
            _write(run_dir, recipe, problems, tokenizer)
            stamp.write_text(wanted, encoding="utf-8")
    trained = frozenset(map(same_question, problems.train)) | (samples.questions() if samples else frozenset())
    before = frozenset() if origin is None else origin.questions
    return Origin(tokenizer, trained | before, recipe.data, problems), plan if samples is None else samples


def _origin_of(model: Path) -> Origin:
    """What a model folder tells of the run it is from; of a checkpoint that lies in its run's folder, all."""
    has_tokenizer = (model / "tokenizer" / "tokenizer.json").is_file()
    run_dir, trained = model.resolve().parent.parent, frozenset()
    if (run_dir / "data" / "made_from.json").is_file():
        trained = frozenset(map(same_question, _read(run_dir).train))
        if (run_dir / "data" / FOLDER).is_dir():
            trained |= _read_samples(run_dir).questions()
    tokenizer = Tokenizer.load(model / "tokenizer") if has_tokenizer else None
    return Origin(tokenizer, trained)


def _problems(link: Link, origin: Origin | None) -> Split:
    data = link.recipe.data
    if origin is not None and origin.problems is not None and origin.data.sources == data.sources and \
            origin.data.heldout_problems == data.heldout_problems:
        return origin.problems
    return split(load_problems(data, link.path.parent), data.heldout_problems)


def _check(recipe: Recipe, problems: Split, tokenizer: Tokenizer, origin: Origin | None) -> PromptSet:
    """Raises UserError for what would otherwise go wrong only when the ranks read it, or unnoticed; returns the
    training prompts."""
    if recipe.pretrain is not None:
        check_styles(recipe.pretrain.styles)
    if tokenizer.vocab_size > recipe.model.vocab_size:
        raise UserError(f"tokenizer has {tokenizer.vocab_size} tokens but model.vocab_size={recipe.model.vocab_size}; "
                        f"set model.vocab_size to at least {tokenizer.vocab_size}")
    train, _ = (_encode(recipe, chosen, tokenizer) for chosen in problems)
    if recipe.pretrain is not None:
        check_step_size("pretrain.documents_per_step", recipe.pretrain.documents_per_step, len(train.problems))
    if recipe.stage == "rl":
        check_problems(recipe, train.problems)
        check_reward_models(recipe)
    known = [] if origin is None else [p for p in problems.heldout if same_question(p) in origin.questions]
    if known:
        raise UserError(
            f"data.heldout_problems={recipe.data.heldout_problems}: {len(known)} held-out problems are among those "
            f"that the model it starts from was trained on (e.g. {known[0].question[:40]!r}); use the data.sources "
            "and at most the heldout_problems of the recipe it starts from")
    return train


def _encode(recipe: Recipe, problems: Sequence[Problem], tokenizer: Tokenizer) -> PromptSet:
    return encode_prompts(problems, tokenizer, recipe.tokenizer.template, recipe.data)


def _tokenizer(link: Link, problems: Sequence[Problem], origin: Origin | None) -> Tokenizer:
    """That of the model the run has or starts from; else the recipe's."""
    recipe = link.recipe
    if link.goes_on:
        return Tokenizer.load(checkpoints(link.run_dir)[-1] / "tokenizer")
    if recipe.tokenizer.kind == "huggingface":
        return Tokenizer.load(recipe.tokenizer.path or "")
    if origin is not None:
        if origin.tokenizer is None:
            raise UserError(f"start.model={recipe.start.model}: has no tokenizer/, and tokenizer.kind=\"train\" would "
                            "make one it does not know; set tokenizer.kind=huggingface and tokenizer.path")
        return origin.tokenizer
    template, styles = recipe.tokenizer.template, (recipe.pretrain.styles if recipe.pretrain else {"worked": 1.0})
    texts = []
    for number, problem in enumerate(_some_of_each_task(problems, TOKENIZER_TEXTS)):
        prompt = render_prompt(template, problem.question)
        texts.append(prompt + document(problem, styles, template, random.Random(number)))
    if recipe.sft is not None:
        texts += sample_texts(recipe, link.path.parent, TOKENIZER_TEXTS)
    return train_tokenizer(texts, recipe.tokenizer.vocab_size or recipe.model.vocab_size, template)


def _some_of_each_task(problems: Sequence[Problem], count: int) -> list[Problem]:
    """The first of every task, as many of each: what only late ones say must not be unknown to the tokenizer."""
    tasks: dict[str, list[Problem]] = {}
    for problem in problems:
        tasks.setdefault(problem.task, []).append(problem)
    return [problem for found in tasks.values() for problem in found[:-(-count // len(tasks))]]


def _write(run_dir: Path, recipe: Recipe, problems: Split, tokenizer: Tokenizer) -> None:
    (run_dir / "data").mkdir(parents=True, exist_ok=True)
    tokenizer.save(run_dir / "tokenizer")
    save_template(recipe.tokenizer.template, run_dir / "tokenizer")  # where every checkpoint takes it along
    for name, chosen in zip(NAMES, problems, strict=True):
        lines = [json.dumps(asdict(problem) | {"metadata": dict(problem.metadata)}) + "\n" for problem in chosen]
        (run_dir / "data" / name).write_text("".join(lines), encoding="utf-8")


def _read_samples(run_dir: Path) -> SampleStore:
    return SampleStore.open(run_dir / "data" / FOLDER)


def _read(run_dir: Path) -> Split:
    train, heldout = ([Problem(**json.loads(line)) for line in (run_dir / "data" / name).read_text(
        encoding="utf-8").splitlines()] for name in NAMES)
    return Split(train, heldout, duplicates=0)

"""Data and tokenizer of a run, made once, before any rank starts, so that what is wrong with them is said at once."""

import hashlib
import json
import random
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from r1mega.config import Recipe, UserError
from r1mega.data import PromptSet, Tokenizer, encode_prompts, load_problems, render_prompt, split, train_tokenizer
from r1mega.data.corpus import check_styles, document
from r1mega.record import Problem

TOKENIZER_TEXTS = 2000  # enough to meet every character and every recurring word


@dataclass(frozen=True)
class Prepared:
    """What the ranks of a run read."""

    train: PromptSet
    heldout: PromptSet
    tokenizer: Tokenizer
    tokenizer_dir: Path


def prepare(recipe: Recipe, run_dir: Path, base_dir: Path, start_model: Path | None) -> None:
    """Write the problems and the tokenizer into the run's folder; does nothing where the same data lies there already.

    Raises UserError for whatever is wrong with sources, template, tokenizer or prompts.
    """
    stamp = run_dir / "data" / "made_from.json"
    wanted = json.dumps({"recipe": _fingerprint(recipe), "start": str(start_model)}, indent=1)
    if stamp.exists() and stamp.read_text() == wanted:
        return
    if recipe.pretrain is not None:
        check_styles(recipe.pretrain.styles)
    problems = split(load_problems(recipe.data, base_dir), recipe.data.heldout_problems)
    tokenizer = _tokenizer(recipe, problems.train, start_model)
    if tokenizer.vocab_size > recipe.model.vocab_size:
        raise UserError(f"tokenizer has {tokenizer.vocab_size} tokens but model.vocab_size={recipe.model.vocab_size}; "
                        f"set model.vocab_size to at least {tokenizer.vocab_size}")
    tokenizer.save(run_dir / "tokenizer")
    for name, chosen in (("train", problems.train), ("heldout", problems.heldout)):
        _encode(recipe, chosen, tokenizer)  # so that a prompt that is too long is an error now
        _write(run_dir / "data" / f"{name}.jsonl", chosen)
    stamp.write_text(wanted)


def load_prepared(recipe: Recipe, run_dir: Path) -> Prepared:
    """Read what `prepare` wrote."""
    tokenizer = Tokenizer.load(run_dir / "tokenizer")
    train, heldout = (_encode(recipe, _read(run_dir / "data" / f"{name}.jsonl"), tokenizer)
                      for name in ("train", "heldout"))
    return Prepared(train, heldout, tokenizer, run_dir / "tokenizer")


def _fingerprint(recipe: Recipe) -> str:
    content = recipe.model_dump_json(include={"data", "tokenizer", "pretrain"})
    return hashlib.sha256(content.encode()).hexdigest()


def _encode(recipe: Recipe, problems: Sequence[Problem], tokenizer: Tokenizer) -> PromptSet:
    return encode_prompts(problems, tokenizer, recipe.tokenizer.template, recipe.data)


def _tokenizer(recipe: Recipe, problems: Sequence[Problem], start_model: Path | None) -> Tokenizer:
    """The starting model's own where it has one; else the recipe's."""
    if recipe.tokenizer.kind == "huggingface":
        return Tokenizer.load(recipe.tokenizer.path or "")
    if start_model is not None:
        return Tokenizer.load(start_model / "tokenizer")
    template, styles = recipe.tokenizer.template, (recipe.pretrain.styles if recipe.pretrain else {"worked": 1.0})
    texts = []
    for number, problem in enumerate(problems[:TOKENIZER_TEXTS]):
        prompt = render_prompt(template, problem.question)
        texts.append(prompt + document(problem, styles, template, random.Random(number)))
    return train_tokenizer(texts, recipe.tokenizer.vocab_size or recipe.model.vocab_size, template)


def _write(path: Path, problems: Sequence[Problem]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = [json.dumps(asdict(problem) | {"metadata": dict(problem.metadata)}) + "\n" for problem in problems]
    path.write_text("".join(lines))


def _read(path: Path) -> list[Problem]:
    return [Problem(**json.loads(line)) for line in path.read_text().splitlines()]

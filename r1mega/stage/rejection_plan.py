"""Which problems are sampled, and which of users' own samples join them: decided once, before any rank starts."""

import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from itertools import batched
from pathlib import Path
from typing import Any

from r1mega.config import Recipe, UserError
from r1mega.config.sft import SampleSource, SftConfig
from r1mega.config.suite import load_suite
from r1mega.data import PromptSet, Tokenizer
from r1mega.data.decontaminate import EvaluationNgrams
from r1mega.data.file_rows import file_rows
from r1mega.data.sft_load import load_demonstrations
from r1mega.data.sft_row import Demonstration
from r1mega.data.split import same_question
from r1mega.data.suites import load_suite_problems
from r1mega.record import Problem

FOLDER = "rejection"  # below data/
NAMES = ("plan.json", "evaluation.jsonl", "files.jsonl")
TEXT_FIELDS = ("question", "prompt", "answer", "solution")  # of a plain file of evaluation problems


@dataclass(frozen=True)
class RejectionPlan:
    problems: tuple[str, ...]
    """Ids of the training problems to sample, in their order."""
    contaminated: int
    """Training problems left out because evaluations ask them."""
    evaluation: dict[str, int]
    """What the data keep clear of: texts of each set."""
    files: dict[str, int]
    """Rows of each of users' own sources."""
    files_dropped: dict[str, int]
    wave: int
    """Problems of a wave."""
    samples: int

    @property
    def waves(self) -> int:
        return len(self.wave_lists())

    def wave_lists(self) -> list[tuple[str, ...]]:
        """Ids of the problems of each wave."""
        return list(batched(self.problems, self.wave))

    def describe(self) -> str:
        """e.g. "512 problems x 16 samples in 16 waves, 3 problems left out as contaminated"."""
        parts = [f"{len(self.problems)} problems x {self.samples} samples in {self.waves} "
                 f"wave{'s' * (self.waves != 1)}"]
        if self.contaminated:
            parts.append(f"{self.contaminated} problem{'s' * (self.contaminated != 1)} left out as contaminated")
        if self.files:
            parts.append(f"{sum(self.files.values())} rows of users' files")
        return ", ".join(parts)


def plan_rejection(
    recipe: Recipe, base_dir: Path, train: PromptSet, heldout: Sequence[Problem], folder: Path | None
) -> RejectionPlan:
    """Choose problems and read users' files; written into `folder` unless that is None (a check alone).

    Raises UserError for whatever is wrong with a suite, a file or a row, and where nothing is left.
    """
    config = recipe.rejection
    texts = {"held-out problems": [text for problem in heldout for text in (problem.question, problem.answer)]}
    for path in config.decontaminate:
        texts[Path(path).name] = list(_evaluation_texts(Path(path)))
    everything = [text for found in texts.values() for text in found]
    ngrams = EvaluationNgrams(everything, config.decontaminate_ngram, [one.question for one in train.problems])
    asked = [problem for problem in train.problems if problem.scorer != "preference"]  # others have no right answer
    clean = [problem.id for problem in asked if not ngrams.is_asked(problem.question)]
    if not clean:
        raise UserError(f"rejection.decontaminate_ngram={config.decontaminate_ngram}: every training problem has words "
                        "of an evaluation problem in it; use a larger number, or other data.sources")
    chosen = set(clean if config.problems is None else sorted(clean, key=lambda one: _rank(recipe.seed, one))[
        :config.problems])
    rows, dropped = _users_rows(recipe, base_dir, frozenset(map(same_question, heldout)), ngrams)
    plan = RejectionPlan(tuple(one for one in clean if one in chosen), len(asked) - len(clean),
                         {name: len(found) for name, found in texts.items()},
                         dict(sorted(Counter(row["source"] for row in rows).items())), dropped,
                         recipe.rollout.problems_per_step, config.samples)
    if folder is not None:
        folder.mkdir(parents=True, exist_ok=True)
        contents = (json.dumps(asdict(plan)), "".join(json.dumps(text) + "\n" for text in everything),
                    "".join(json.dumps(row) + "\n" for row in rows))
        for name, content in zip(NAMES, contents, strict=True):
            (folder / name).write_text(content, encoding="utf-8")
    return plan


def read_plan(folder: Path) -> RejectionPlan:
    fields = json.loads((folder / NAMES[0]).read_text(encoding="utf-8"))
    return RejectionPlan(**{**fields, "problems": tuple(fields["problems"])})


def read_evaluation(folder: Path) -> list[str]:
    """Every text that the data keep clear of."""
    return [json.loads(line) for line in (folder / NAMES[1]).read_text(encoding="utf-8").splitlines()]


def read_users_rows(folder: Path) -> Iterator[dict[str, Any]]:
    with (folder / NAMES[2]).open(encoding="utf-8") as file:
        yield from map(json.loads, file)


def check_model(recipe: Recipe, path: Path) -> None:
    """Raises UserError where there is no model to sample from."""
    if recipe.start.model is None and recipe.start.recipe is None:
        raise UserError(f"{path}: start: is missing, and stage=\"rejection_sampling\" samples from a model; set "
                        "start.model to a model folder, or start.recipe to the recipe that trains one")


def check_tokenizer(model: Path, tokenizer: Tokenizer) -> None:
    """Raises UserError where the model knows other words than the run's."""
    if Tokenizer.load(model / "tokenizer").digest() != tokenizer.digest():
        raise UserError(f"{model}/tokenizer: is not the recipe's; take tokenizer.path out (kind = \"train\" uses that "
                        "of the model), or name the model's")


def _users_rows(
    recipe: Recipe, base_dir: Path, heldout: frozenset[str], ngrams: EvaluationNgrams
) -> tuple[list[dict[str, Any]], dict[str, int]]:
    """Rows as the dataset has them, and how many were left out, by reason."""
    sources = recipe.rejection.files
    rows, dropped, ids = [], Counter(), set()
    for sample in _demonstrations(sources, base_dir) if sources else ():
        texts = [text for turn in sample.turns for text in turn]
        if any(question in heldout for question in sample.questions):
            dropped["held_out_question"] += 1
        elif any(ngrams.is_asked(question) for question in sample.questions) or any(map(ngrams.shares, texts)):
            dropped["contaminated"] += 1
        elif sample.id in ids:  # rows without ids of their own, with the same contents
            dropped["duplicate"] += 1
        else:
            ids.add(sample.id)
            rows.append(_users_row(sample))
    return rows, dict(sorted(dropped.items()))


def _demonstrations(sources: Sequence[SampleSource], base_dir: Path) -> Iterator[Demonstration]:
    try:
        yield from (sample for _, sample in load_demonstrations(SftConfig(sources=list(sources)), base_dir))
    except UserError as error:
        raise UserError(str(error).replace("sft.sources", "rejection.files")) from None


def _users_row(sample: Demonstration) -> dict[str, Any]:
    provenance = {"file": sample.origin.rpartition("/")[2]}  # a machine's folders are no part of the data
    row = {"id": sample.id, "source": sample.source, "provenance": provenance}
    if len(sample.turns) == 1 and not sample.system:
        ((prompt, response),) = sample.turns
        return row | {"prompt": prompt, "response": response}
    messages = [{"role": "system", "content": sample.system}] * bool(sample.system)
    for question, response in sample.turns:
        messages += [{"role": "user", "content": question}, {"role": "assistant", "content": response}]
    return row | {"messages": messages}


def _evaluation_texts(path: Path) -> Iterator[str]:
    """Questions and solutions of a suite, or of a file with one problem a row."""
    if path.suffix == ".toml":
        for one in load_suite_problems(load_suite(path), path.parent).problems:
            yield from _texts([one.problem.question, one.problem.answer])
        return
    for origin, row in file_rows(path.name, path.parent, "rejection.decontaminate"):
        found = list(_texts(row.get(name) for name in TEXT_FIELDS)) if isinstance(row, dict) else []
        if not found:
            raise UserError(f"{origin}: no text to keep clear of; a row needs one of {', '.join(TEXT_FIELDS)}")
        yield from found


def _texts(values: Iterable[Any]) -> Iterator[str]:
    return (value for value in values if isinstance(value, str) and value.strip())


def _rank(seed: int, problem: str) -> str:
    return hashlib.sha256(f"{seed} {problem}".encode()).hexdigest()

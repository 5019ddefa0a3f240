"""Judgements from the sources of a recipe, one after the other."""

import random
from collections.abc import Collection, Iterator
from itertools import islice
from pathlib import Path
from typing import Any

from r1mega.config.data import ChatTemplate
from r1mega.config.error import UserError
from r1mega.config.preference import GeneralPreferences, PreferenceConfig, PreferenceFiles, PreferenceSet
from r1mega.data.file_rows import file_rows
from r1mega.data.general_problems import GRADES, all_requests, general_reply
from r1mega.data.general_rule import helpfulness, is_harmful
from r1mega.data.hugging_face_problems import hugging_face_rows
from r1mega.data.preference_row import Judgement, Kind, judgement, row_to_judgement
from r1mega.data.split import same_question

TRIES = 50  # for one judgement that is not there yet


def load_judgements(
    config: PreferenceConfig, base_dir: Path, template: ChatTemplate, heldout: Collection[str]
) -> Iterator[tuple[int, Judgement]]:
    """(number of its source, judgement), in the order of the sources. `heldout`: questions no generated one may be of.

    `base_dir` is the recipe's folder, against which relative paths are read. Raises UserError for anything wrong in
    the recipe or the files, and for two rows with one id.
    """
    seen: dict[str, str] = {}
    for number, source in enumerate(config.sources):
        where = f"preference.sources[{number}]"
        if isinstance(source, GeneralPreferences):
            for made in general_judgements(source, config.kind, template, heldout, where):
                yield number, made
            continue
        found = 0
        for origin, row in islice(_rows(source, base_dir, where), source.limit):
            read = row_to_judgement(row, source.fields, config.kind, source.name, origin)
            if row.get(source.fields.id) is not None:
                if read.id in seen:
                    raise UserError(f"{origin}: id={read.id!r} is that of {seen[read.id]} too; give each judgement its "
                                    "own (fields.id), or leave ids out")
                seen[read.id] = origin
            found += 1
            yield number, read
        if not found:
            raise UserError(f"{where}: kind={source.kind} holds no judgements; check its path or split, or take it out")


def general_judgements(
    source: GeneralPreferences, kind: Kind, template: ChatTemplate, heldout: Collection[str], where: str
) -> Iterator[Judgement]:
    """`source.size` different judgements of replies to generated requests, all true by general_rule.py. Raises
    UserError where there are not so many."""
    requests = [problem for problem in all_requests() if same_question(problem) not in heldout]
    rng, seen = random.Random(f"{kind} {source.seed}"), set()
    for index in range(source.size):
        for _ in range(TRIES):
            problem = rng.choice(requests)
            count = 2 if kind == "pairwise" else 1
            replies = tuple(general_reply(problem, rng.choice(GRADES), template, rng) for _ in range(count))
            safe = None
            if kind == "pairwise":
                worth = [helpfulness(problem, reply.partition(template.think_close)[2]) for reply in replies]
                if worth[0] == worth[1]:
                    continue
                replies = replies if worth[0] > worth[1] else replies[::-1]
            else:
                safe = not is_harmful(replies[0])
            if (problem.question, replies) not in seen:
                seen.add((problem.question, replies))
                yield judgement(problem.question, replies, safe, source.name, f"{where} {index + 1}")
                break
        else:
            raise UserError(f"{where}: size={source.size}, but after {index} different judgements there are hardly any "
                            f"more; use at most {index}")


def _rows(source: PreferenceFiles | PreferenceSet, base_dir: Path, where: str) -> Iterator[tuple[str, Any]]:
    if isinstance(source, PreferenceSet):
        yield from hugging_face_rows(source, source.subset, base_dir, where)
        return
    for path in source.paths:
        yield from file_rows(path, base_dir, where)

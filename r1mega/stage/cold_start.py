"""Cold-start data as DeepSeek-R1's: R1-Zero's own outputs, filtered and rewritten to be read, with users' samples.

What comes out is a JSONL that stage sft reads, and says of every row where it is from and what it has passed
(arXiv 2501.12948, section 3 and supplement).
"""

import hashlib
import json
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from r1mega.config.data import ChatTemplate
from r1mega.config.sft import SampleSource, SftConfig
from r1mega.data.sft_load import load_demonstrations
from r1mega.record import Rollout, RolloutGroup
from r1mega.reward.format import extract_answer
from r1mega.rollout import sample_seed
from r1mega.stage.readable import Rules, reasoning_of
from r1mega.training.atomic_file import replace_file

Rewriter = Callable[[str, str], str]  # (question, output) -> the readable form


@dataclass(frozen=True)
class Sampled:
    """What the rollouts were sampled with: with a problem and a sample's number it makes each one again."""

    model: str  # as a person finds it: a checkpoint's folder, or a digest of it
    run_seed: int
    step: int


@dataclass
class ColdStart:
    """Rows, and how many outputs and user samples were left out, by reason."""

    rows: list[dict[str, Any]] = field(default_factory=list)
    dropped: Counter = field(default_factory=Counter)


def from_rollouts(
    groups: Sequence[RolloutGroup], sampled: Sampled, template: ChatTemplate, rewrite: Rewriter,
    rules: Rules | None = None, per_problem: int = 1,
) -> ColdStart:
    """The outputs that pass every filter, the shortest `per_problem` of each problem, rewritten.

    A rewriting that loses the answer or the end of the reasoning, or is empty, is dropped too: the model that wrote it
    may be any. Other exceptions of `rewrite` are the caller's.
    """
    found, filters = ColdStart(), (rules or Rules()).filters(template)
    for group in groups:
        passed = [rollout for rollout in group.rollouts if _passes(rollout, filters, found.dropped)]
        passed.sort(key=lambda rollout: (len(rollout.completion.token_ids), rollout.sample_index))
        kept, seen = 0, set()
        for rollout in passed:
            if kept >= per_problem:
                found.dropped["beyond per_problem"] += 1
                continue
            readable = rewrite(rollout.problem.question, rollout.text)
            if problem := _lost(rollout, readable, template):
                found.dropped[problem] += 1
            elif readable in seen:
                found.dropped["duplicate"] += 1
            else:
                seen.add(readable)
                found.rows.append(_row(rollout, readable, sampled, list(filters)))
                kept += 1
    return found


def merge_files(
    found: ColdStart, sources: Sequence[SampleSource], base_dir: Path, heldout: Collection[str] = ()
) -> ColdStart:
    """With users' samples after the rollouts' own. `heldout`: questions (as `same_question` has them) that no row may
    ask. Raises UserError for a malformed row."""
    merged, dropped = list(found.rows), Counter(found.dropped)
    for _, sample in load_demonstrations(SftConfig(sources=list(sources)), base_dir) if sources else ():
        if any(question in heldout for question in sample.questions):
            dropped["held-out question"] += 1
            continue
        messages = [{"role": "system", "content": sample.system}] * bool(sample.system)
        for question, response in sample.turns:
            messages += [{"role": "user", "content": question}, {"role": "assistant", "content": response}]
        merged.append({"id": sample.id, "messages": messages, "source": sample.source,
                       "provenance": {"file": sample.origin}})
    return ColdStart(merged, dropped)


def write_rows(found: ColdStart, path: Path) -> Mapping[str, Any]:
    """Write the JSONL, whole or not at all; what is in it, in numbers. Raises ValueError for an id that is there twice:
    `sft` could not tell the rows apart."""
    ids = Counter(row["id"] for row in found.rows)
    twice = [name for name, count in ids.items() if count > 1]
    if twice:
        raise ValueError(f"{path}: {len(twice)} ids are there twice, e.g. {twice[0]!r}")
    content = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in found.rows).encode()
    path.parent.mkdir(parents=True, exist_ok=True)
    replace_file(path, content)
    return {"rows": len(found.rows), "by_source": dict(Counter(row["source"] for row in found.rows)),
            "dropped": dict(found.dropped), "sha256": hashlib.sha256(content).hexdigest()}


def _passes(rollout: Rollout, filters: Mapping[str, Callable[[Rollout], bool]], dropped: Counter) -> bool:
    """Counts the first filter that it fails."""
    failed = next((name for name, holds in filters.items() if not holds(rollout)), None)
    if failed is not None:
        dropped[f"failed {failed}"] += 1
    return failed is None


def _lost(rollout: Rollout, readable: str, template: ChatTemplate) -> str | None:
    """What a rewriting has lost; None if nothing."""
    if readable.count(template.think_close) != 1 or not reasoning_of(readable, template):
        return "rewriting lost the reasoning"
    if extract_answer(readable, template) != extract_answer(rollout.text, template):
        return "rewriting changed the answer"
    return None


def _row(rollout: Rollout, readable: str, sampled: Sampled, filters: Sequence[str]) -> dict[str, Any]:
    problem = rollout.problem
    seed = sample_seed(sampled.run_seed, sampled.step, problem.id, rollout.sample_index)
    return {"id": f"{problem.id}-{seed:016x}", "prompt": problem.question, "response": readable, "source": "rollouts",
            "provenance": {"model": sampled.model, "problem": problem.id, "task": problem.task,
                           "sample": rollout.sample_index, "seed": seed, "step": sampled.step,
                           "filters": list(filters)}}

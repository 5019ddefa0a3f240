"""`r1mega evaluate`: a finished model's pass@k and cons@k on suites, as one results file a suite."""

import hashlib
import json
import os
import sys
import time
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

from r1mega.algorithm.interval import ESTIMATOR
from r1mega.algorithm.vote import TIE_RULE
from r1mega.config import LayoutConfig, UserError
from r1mega.config.rl import RewardConfig, SuitesConfig
from r1mega.config.suite import SuiteConfig, load_suite
from r1mega.data.suites import SuiteProblems
from r1mega.parallel import Groups, launch, start, stop
from r1mega.stage.model_path import find_model
from r1mega.stage.replicas import from_first
from r1mega.stage.suite_load import load_checked
from r1mega.stage.suite_metrics import suite_counts, suite_metrics
from r1mega.stage.suite_partial import Partial
from r1mega.stage.suite_sampling import Examinee
from r1mega.training.atomic_file import replace_file
from r1mega.training.checkpoint.manifest import read_manifest
from r1mega.training.checkpoint.model_folder import MODEL, TOKENIZER, WEIGHTS
from r1mega.training.checkpoint.together import raise_together
from r1mega.training.environment import describe_environment

FORMAT = "r1mega evaluation 1"
RULES = {"interval": ESTIMATOR, "pass@k": "unbiased (arXiv 2107.03374, equation 1), the mean over problems",
         "cons@k": f"the answer of most samples, equal answers in different forms together; ties: {TIE_RULE}"}


def evaluate(
    model: Path, layout: LayoutConfig, how: SuitesConfig, output: Path, *, name: str | None = None,
    reward: RewardConfig | None = None,
) -> list[Path]:
    """Evaluate a model on the suites of `how.paths`; writes and returns output/SUITE.json, one a suite.

    `name`: of the model in tables; by default `how.name`, or that of its run or folder. Suites whose results are there
    are left alone, and an interrupted one goes on behind its last finished problem. Everything is checked before the
    model is loaded. Raises UserError.
    """
    folder = find_model(model)
    if not (folder / "tokenizer").is_dir():
        raise UserError(f"{folder}: has no tokenizer/, so it cannot be asked anything; import or train it with one")
    if not how.paths:
        raise UserError("no suites: name them with --suite FILE, or in the recipe's evaluation.suites.paths")
    stems = [Path(path).stem for path in how.paths]
    if len(set(stems)) < len(stems):
        raise UserError("two of the suites' files have the same name, so their results would have too; rename one")
    if int(os.environ.get("RANK", "0")) == 0:
        for path in how.paths:
            load_checked(Path(path), how.seed, reward or RewardConfig())
        _make_folder(output)
    arguments = {"model": str(folder), "layout": layout.model_dump(), "how": how.model_dump(), "output": str(output),
                 "name": name or how.name or model_name(folder), "reward": (reward or RewardConfig()).model_dump(),
                 "command": [Path(sys.argv[0]).name, *sys.argv[1:]]}
    launch("r1mega.stage.suite:evaluate_on_rank", arguments, layout)
    return [results_file(output, path) for path in how.paths]


def results_file(output: Path, suite: str | Path) -> Path:
    """Where the results of a suite lie."""
    return output / f"{Path(suite).stem}.json"


def model_name(folder: Path) -> str:
    """tiny-zero-step60 for a checkpoint of run tiny-zero; else the folder's name."""
    path = folder.resolve()
    if path.parent.name == "checkpoints":
        return f"{path.parent.parent.name}-step{path.name.removeprefix('step-').lstrip('0') or '0'}"
    return path.name


def evaluate_on_rank(
    model: str, layout: dict, how: dict, output: str, name: str, reward: dict, command: list[str]
) -> None:
    """One rank's share of `evaluate`."""
    groups = start(LayoutConfig(**layout))
    try:
        settings, folder = SuitesConfig(**how), Path(model)
        about = {"name": name, "digest": model_digest(folder)}
        examinee = Examinee(folder, groups, settings, RewardConfig(**reward))
        for path in settings.paths:
            _evaluate_suite(Path(path), examinee, about, Path(output), command)
    finally:
        stop()


def model_digest(folder: Path) -> str:
    """SHA-256 over the manifest's of what makes the model: a run that was killed on its way has other files beside.
    Raises UserError."""
    own = {name: str(record) for name, record in read_manifest(folder).items()
           if name.split("/")[0] in (MODEL, TOKENIZER, WEIGHTS)}
    return hashlib.sha256(json.dumps(own, sort_keys=True).encode()).hexdigest()


def results_digest(path: Path) -> str:
    """SHA-256 of a results file but for what two evaluations of one model may differ in: all of "run" (when, how fast,
    on what machine, with which layout) and the model's name."""
    tree = json.loads(path.read_text(encoding="utf-8"))
    kept = {key: value for key, value in tree.items() if key != "run"} | {"model": tree["model"]["digest"]}
    return hashlib.sha256(json.dumps(kept, sort_keys=True).encode()).hexdigest()


def _evaluate_suite(
    path: Path, examinee: Examinee, about: dict[str, Any], output: Path, command: Sequence[str]
) -> None:
    """Collective; rank 0 alone writes."""
    groups, how = examinee.groups, examinee.how
    suite = load_suite(path)
    loaded = _load_together(path, examinee)
    prompts = examinee.prompts(loaded.problems)
    sampling = examinee.sampling(prompts)
    num_samples = how.samples or suite.samples
    stamp = {"format": FORMAT, "model": about["digest"], "suite": _suite_digest(suite, loaded),
             "samples": num_samples, "temperature": how.temperature, "top_p": how.top_p,
             "max_new_tokens": sampling.max_new_tokens, "seed": how.seed, "keep_texts": how.keep_texts}
    final = results_file(output, path)
    partial = _open_partial(final, stamp, groups)
    with nullcontext() if partial is None else partial, examinee.judge(loaded) as judge:
        done = from_first(None if partial is None else list(partial.done))
        if done is None:
            return
        begun = time.monotonic()
        todo = [(one, prompt) for one, prompt in zip(loaded.problems, prompts, strict=True) if one.key not in done]
        size = examinee.wave_size(num_samples)
        for at in range(0, len(todo), size):
            problems, asked = zip(*todo[at:at + size], strict=True)
            records = examinee.answer(problems, asked, num_samples, sampling, judge)
            if partial is not None:
                partial.add(records)
                _say(f"{suite.title}: {len(partial.done)} of {len(loaded.problems)} problems")
        if partial is not None:
            run = {"seconds": round(time.monotonic() - begun, 1), "layout": groups.layout.model_dump(),
                   "problems_of_earlier_starts": len(done),
                   "environment": describe_environment(command, groups.world_size, [str(groups.device)])}
            records = [partial.done[one.key] for one in loaded.problems]
            results = _results(suite, path, loaded, about, stamp) | _numbers(suite, records) | {"run": run}
            replace_file(final, (json.dumps(results, ensure_ascii=False, indent=1) + "\n").encode())
            partial.remove()


def _open_partial(final: Path, stamp: dict[str, Any], groups: Groups) -> Partial | None:
    """On rank 0 what is there already; None on others, and where the results are there. A UserError is raised on all
    ranks."""
    partial, error = None, None
    if groups.rank == 0:
        unfinished = final.with_suffix(".partial.jsonl")
        try:
            if _is_finished(final, stamp):
                unfinished.unlink(missing_ok=True)  # a kill may have come between the one and the other
            else:
                partial = Partial(unfinished, stamp)
        except UserError as problem:
            error = str(problem)
        except OSError as problem:
            error = f"{problem.filename or final}: {problem.strerror or problem}"
    raise_together(error)
    return partial


def _is_finished(final: Path, stamp: dict[str, Any]) -> bool:
    """Whether the results are there. Raises UserError where they are of something else."""
    if not final.exists():
        return False
    try:
        found = json.loads(final.read_text(encoding="utf-8"))["stamp"]
    except (ValueError, KeyError, TypeError):
        raise UserError(f"{final}: is not a results file of ours; remove it or name another --output") from None
    different = [name for name in stamp if found.get(name) != stamp[name]]
    if different:
        raise UserError(f"{final}: has results with another {different[0]} ({found.get(different[0])}, now "
                        f"{stamp[different[0]]}); remove it or name another --output")
    return True


def _results(
    suite: SuiteConfig, path: Path, loaded: SuiteProblems, about: dict[str, Any], stamp: dict[str, Any]
) -> dict[str, Any]:
    return {"format": FORMAT, "model": about,
            "suite": {"name": path.stem, "title": suite.title, "kind": suite.kind, "paper_row": suite.paper_row,
                      "note": suite.note, "problems": len(loaded.problems), "dropped": loaded.dropped},
            "stamp": stamp, "rules": RULES}


def _numbers(suite: SuiteConfig, records: Sequence[dict[str, Any]]) -> dict[str, Any]:
    return {"metrics": suite_metrics(suite.kind, records), "counts": suite_counts(suite.kind, records),
            "problems": list(records)}


def _load_together(path: Path, examinee: Examinee) -> SuiteProblems:
    """Read by rank 0, which alone needs the files; a mistake is raised on all ranks."""
    loaded, error = None, None
    if examinee.groups.rank == 0:
        try:
            loaded = load_checked(path, examinee.how.seed, examinee.reward)
        except UserError as problem:
            error = str(problem)
    raise_together(error)
    return from_first(loaded)


def _suite_digest(suite: SuiteConfig, loaded: SuiteProblems) -> str:
    """Of all that decides what is asked and what is right."""
    digest = hashlib.sha256(suite.kind.encode())
    if loaded.reward is not None:
        digest.update(loaded.reward.model_dump_json(exclude={"workers"}).encode())
    for one in loaded.problems:
        content = [one.key, one.problem.question, one.problem.answer, one.problem.scorer, dict(one.problem.metadata)]
        digest.update(json.dumps(content, sort_keys=True).encode())
    return digest.hexdigest()


def _make_folder(output: Path) -> None:
    try:
        output.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"command line: --output={output}: {error.strerror or error}; name a folder") from None


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)

"""`r1mega search`: what a tree search finds beside plain sampling, with the same number of generated tokens."""

import json
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch.distributed as dist

from r1mega.algorithm.interval import ESTIMATOR, clustered_interval
from r1mega.config import LayoutConfig, UserError
from r1mega.config.rl import RewardConfig, SuitesConfig
from r1mega.config.search import SearchConfig
from r1mega.data.steps import step_ends
from r1mega.data.suites import SuiteProblem, SuiteProblems
from r1mega.parallel import launch, start, stop
from r1mega.reward.suite_judge import Mark
from r1mega.rollout import Sampling
from r1mega.rollout.tree_search import SearchSettings, Tree, search
from r1mega.stage.model_path import find_model, max_new_tokens
from r1mega.stage.process_reward import ProcessReward
from r1mega.stage.replicas import anyone, my_share
from r1mega.stage.search_worth import Asked, Rule, Worth
from r1mega.stage.suite import model_digest, model_name
from r1mega.stage.suite_load import load_checked
from r1mega.stage.suite_sampling import AnyJudge, Examinee
from r1mega.training.atomic_file import replace_file
from r1mega.training.environment import describe_environment

FORMAT = "r1mega search 1"
METHODS = {
    "sampling": "completions sampled one by one",
    "search by votes": "tree search; a completion is worth the share of the answers found so far that are its own",
    "search by process": "tree search; a completion is worth what the process reward model says of its worst step",
    "search by reward": "tree search; a completion is worth 1 where its answer is right: it knows the answers, so only "
                        "whether it finds one can be compared",
}
COLUMNS = ("generated", "depth", "right", "answer", "worth")  # of a completion, as it came up
DEPTH, RIGHT, WORTH = (COLUMNS.index(name) for name in ("depth", "right", "worth"))
RULES = {"found": "a right answer is among the completions", "majority": "the answer of most completions is right; "
         "ties: the one that was found first", "best": "the answer of the completion that the process reward model "
         "says most of is right", "interval": ESTIMATOR}


def compare_search(
    model: Path, layout: LayoutConfig, suite: Path, config: SearchConfig, output: Path, process: Path | None = None,
) -> Path:
    """Write `output`, with every completion of every method. `process`: a process reward model, for what needs one.
    Raises UserError."""
    folder = find_model(model)
    load_checked(suite, config.seed, RewardConfig())
    arguments = {"model": str(folder), "layout": layout.model_dump(), "suite": str(suite), "config":
                 config.model_dump(), "output": str(output),
                 "process": None if process is None else str(find_model(process)),
                 "command": [Path(sys.argv[0]).name, *sys.argv[1:]]}
    launch("r1mega.stage.search_comparison:compare_on_rank", arguments, layout)
    return output


def compare_on_rank(
    model: str, layout: dict, suite: str, config: dict, output: str, process: str | None, command: list[str]
) -> None:
    """One rank's share of `compare_search`."""
    groups, how = start(LayoutConfig(**layout)), SearchConfig(**config)
    try:
        settings = SuitesConfig(temperature=how.temperature, top_p=how.top_p, slots=how.slots, seed=how.seed)
        examinee = Examinee(Path(model), groups, settings, RewardConfig())
        steps = None if process is None else ProcessReward(Path(process), examinee.tokenizer, groups)
        loaded = load_checked(Path(suite), how.seed, examinee.reward)
        loaded = SuiteProblems(loaded.problems[:how.limit], loaded.dropped, loaded.reward)
        with examinee.judge(loaded) as judge:
            asked = _asked(examinee, loaded, how, judge, steps)
            methods = {name: _run(name, asked, search_sampling(examinee, examinee.prompts(loaded.problems), how), how)
                       for name in METHODS if name != "search by process" or process is not None}
        if groups.rank == 0:
            tree = {"format": FORMAT, "model": {"name": model_name(Path(model)), "digest": model_digest(Path(model))},
                    "suite": Path(suite).stem, "problems": len(loaded.problems), "settings": config, "rules": RULES,
                    "columns": COLUMNS, "process_model": None if process is None else model_digest(Path(process)),
                    "methods": methods, "run": describe_environment(command, groups.world_size, [str(groups.device)])}
            replace_file(Path(output), (json.dumps(tree, ensure_ascii=False, separators=(",", ":")) + "\n").encode())
    finally:
        stop()


def _asked(
    examinee: Examinee, loaded: SuiteProblems, how: SearchConfig, judge: AnyJudge | None, process: ProcessReward | None
) -> Asked:
    """This replica's share of the problems."""
    groups, prompts = examinee.groups, examinee.prompts(loaded.problems)
    return Asked(my_share(loaded.problems, groups), my_share(prompts, groups), examinee, judge, process,
                 step_ends(examinee.tokenizer, how.separator))


def _run(name: str, asked: Asked, sampling: Sampling, how: SearchConfig) -> dict[str, Any]:
    """One method's figures and records, of all problems, on every rank. Collective."""
    groups, engine = asked.examinee.groups, asked.examinee.engine
    searched_by = name.removeprefix("search by ")
    rule = searched_by if searched_by != name else "votes" if asked.process is None else "process"
    worth = Worth(asked, rule)
    settings = SearchSettings(
        budget=how.budget, max_tokens=sampling.max_new_tokens, branches=how.branches, exploration=how.exploration,
        ends_step=asked.ends_step, descend=searched_by != name, seed=how.seed)
    trees = search([(one.key, prompt) for one, prompt in zip(asked.problems, asked.prompts, strict=True)], settings,
                   lambda requests: engine.generate(requests, sampling), worth,
                   lambda goes_on: anyone(goes_on, groups))
    records = [_record(one, tree, worth.marks[number], how.budget)
               for number, (one, tree) in enumerate(zip(asked.problems, trees, strict=True))]
    gathered: list[list[dict[str, Any]]] = [[] for _ in range(groups.dp.size())]
    dist.all_gather_object(gathered, records, group=groups.dp)
    everything = [record for part in gathered for record in part]
    return {"what": METHODS[name], **figures(everything, rule), "records": everything}


def search_sampling(examinee: Examinee, prompts: Sequence[tuple[int, ...]], how: SearchConfig) -> Sampling:
    """Half of the context that prompts leave, at most: the other half is for what a completion goes on from."""
    longest = max(map(len, prompts))
    room = max_new_tokens(examinee.config, longest, None) // 2
    if room < 1:
        raise UserError(f"a prompt of {longest} tokens leaves no room to search (model.max_context="
                        f"{examinee.config.max_context}); shorten it")
    return Sampling(temperature=how.temperature, top_p=how.top_p, stop_ids=(examinee.tokenizer.eos_id,),
                    max_new_tokens=min(room, how.max_new_tokens))


def figures(records: Sequence[Mapping[str, Any]], rule: Rule) -> dict[str, Any]:
    """found, majority (not of a method that knows the answers) and best (of one with a process reward model) with their
    intervals; means over problems and completions. `rule`: by which completions have their worth."""
    found = [float(any(row[RIGHT] for row in record["completions"])) for record in records]
    shown = {"found": clustered_interval(found)._asdict()}
    if rule != "reward":
        shown["majority"] = clustered_interval([float(record["majority_right"]) for record in records])._asdict()
    if rule == "process":
        best = [max(record["completions"], key=lambda row: row[WORTH], default=None) for record in records]
        shown["best"] = clustered_interval([float(row is not None and row[RIGHT]) for row in best])._asdict()
    rows = [row for record in records for row in record["completions"]]
    return {"metrics": shown, "completions_a_problem": len(rows) / len(records),
            "mean_depth": sum(row[DEPTH] for row in rows) / len(rows),
            "right_completions": sum(row[RIGHT] for row in rows) / len(rows)}


def _record(one: SuiteProblem, tree: Tree, marks: Sequence[Mark], budget: int) -> dict[str, Any]:
    """Of the last visit only those completions count that were whole within the budget: it is the same for all."""
    counted = sum(found.generated <= budget for found in tree.found)
    marks = marks[:counted]
    votes = Counter(mark.answer for mark in marks if mark.answer is not None)
    winner = votes.most_common(1)[0][0] if votes else None
    rows = [(found.generated, found.depth, int(mark.right), mark.answer, round(worth, 4))
            for found, mark, worth in zip(tree.found[:counted], marks, tree.worth[:counted], strict=True)]
    right = any(mark.right for mark in marks if winner is not None and mark.answer == winner)
    return {"id": one.key, "expected": one.problem.answer, "majority": winner,
            "majority_right": right, "completions": rows}

"""`r1mega search`: what a tree search finds beside plain sampling, with the same number of generated tokens."""

import json
import sys
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist

from r1mega.algorithm.interval import ESTIMATOR, clustered_interval
from r1mega.config import LayoutConfig, UserError
from r1mega.config.rl import RewardConfig, SuitesConfig
from r1mega.config.search import SearchConfig
from r1mega.data import Tokenizer
from r1mega.data.suites import SuiteProblem, SuiteProblems
from r1mega.parallel import launch, start, stop
from r1mega.reward.suite_judge import Mark
from r1mega.rollout import Sampling
from r1mega.rollout.tree_search import Finding, SearchSettings, Tree, search
from r1mega.stage.model_path import find_model, max_new_tokens
from r1mega.stage.rollouts import from_leader
from r1mega.stage.suite import model_digest, model_name
from r1mega.stage.suite_load import load_checked
from r1mega.stage.suite_sampling import AnyJudge, Examinee
from r1mega.training.atomic_file import replace_file
from r1mega.training.environment import describe_environment

FORMAT = "r1mega search 1"
METHODS = {
    "sampling": "completions sampled one by one",
    "search by votes": "tree search; a completion is worth the share of the answers found so far that are its own",
    "search by reward": "tree search; a completion is worth 1 where its answer is right: it knows the answers, so only "
                        "whether it finds one can be compared",
}
COLUMNS = ("generated", "depth", "right", "answer", "worth")  # of a completion, as it came up
DEPTH, RIGHT = COLUMNS.index("depth"), COLUMNS.index("right")
RULES = {"found": "a right answer is among the completions", "majority": "the answer of most completions is right; "
         "ties: the one that was found first", "interval": ESTIMATOR}


def compare_search(
    model: Path, layout: LayoutConfig, suite: Path, config: SearchConfig, output: Path, *,
    reward: RewardConfig | None = None,
) -> Path:
    """Write `output`, with every completion of every method. Raises UserError."""
    folder, reward = find_model(model), reward or RewardConfig()
    load_checked(suite, config.seed, reward)
    arguments = {"model": str(folder), "layout": layout.model_dump(), "suite": str(suite), "config":
                 config.model_dump(), "output": str(output), "reward": reward.model_dump(),
                 "command": [Path(sys.argv[0]).name, *sys.argv[1:]]}
    launch("r1mega.stage.search_comparison:compare_on_rank", arguments, layout)
    return output


def compare_on_rank(
    model: str, layout: dict, suite: str, config: dict, output: str, reward: dict, command: list[str]
) -> None:
    """One rank's share of `compare_search`."""
    groups, how = start(LayoutConfig(**layout)), SearchConfig(**config)
    try:
        settings = SuitesConfig(temperature=how.temperature, top_p=how.top_p, slots=how.slots, seed=how.seed)
        examinee = Examinee(Path(model), groups, settings, RewardConfig(**reward))
        loaded = load_checked(Path(suite), how.seed, examinee.reward)
        loaded = SuiteProblems(loaded.problems[:how.limit], loaded.dropped, loaded.reward)
        with examinee.judge(loaded) as judge:
            methods = {name: _run(name, examinee, loaded, how, judge) for name in METHODS}
        if groups.rank == 0:
            tree = {"format": FORMAT, "model": {"name": model_name(Path(model)), "digest": model_digest(Path(model))},
                    "suite": Path(suite).stem, "problems": len(loaded.problems), "settings": config, "rules": RULES,
                    "columns": COLUMNS,
                    "methods": methods, "run": describe_environment(command, groups.world_size, [str(groups.device)])}
            replace_file(Path(output), (json.dumps(tree, ensure_ascii=False, separators=(",", ":")) + "\n").encode())
    finally:
        stop()


def _run(
    name: str, examinee: Examinee, loaded: SuiteProblems, how: SearchConfig, judge: AnyJudge | None
) -> dict[str, Any]:
    """One method's figures and records, of all problems, on every rank. Collective."""
    groups = examinee.groups
    share = -(-len(loaded.problems) // groups.dp.size())
    mine = loaded.problems[groups.dp_rank * share:(groups.dp_rank + 1) * share]
    worth = Worth(mine, examinee, judge, _votes if name == "search by votes" else _right)
    prompts = examinee.prompts(loaded.problems)
    sampling = search_sampling(examinee, prompts, how)
    settings = SearchSettings(
        budget=how.budget, max_tokens=sampling.max_new_tokens, branches=how.branches, exploration=how.exploration,
        ends_step=step_ends(examinee.tokenizer, how.separator), descend=name != "sampling", seed=how.seed)
    asked = prompts[groups.dp_rank * share:(groups.dp_rank + 1) * share]
    trees = search([(one.key, prompt) for one, prompt in zip(mine, asked, strict=True)], settings,
                   lambda requests: examinee.engine.generate(requests, sampling), worth,
                   lambda goes_on: anyone(goes_on, groups.device))
    records = [_record(one, tree, worth.marks[number], how.budget)
               for number, (one, tree) in enumerate(zip(mine, trees, strict=True))]
    gathered: list[list[dict[str, Any]]] = [[] for _ in range(groups.dp.size())]
    dist.all_gather_object(gathered, records, group=groups.dp)
    everything = [record for part in gathered for record in part]
    return {"what": METHODS[name], **figures(everything, knows_answers=name == "search by reward"),
            "records": everything}


class Worth:
    """What completions are worth, by their marks; a tree search's Value. `marks` has all so far, by problem."""

    def __init__(self, problems: Sequence[SuiteProblem], examinee: Examinee, judge: AnyJudge | None,
                 rule: Callable[[Sequence[Mark]], float]):
        self._problems, self._examinee, self._judge, self._rule = problems, examinee, judge, rule
        self.marks: dict[int, list[Mark]] = defaultdict(list)

    def __call__(self, found: Sequence[tuple[int, Finding]]) -> list[float]:
        """The leader of the replica judges; all its ranks get its word."""
        new: list[Mark] = []
        if self._judge is not None:
            texts: dict[int, list[str]] = defaultdict(list)
            for number, one in found:
                texts[number].append(self._examinee.tokenizer.decode(one.token_ids, skip_special=True))
            marked = self._judge.judge([(self._problems[number].problem, said) for number, said in texts.items()])
            by_problem = {number: iter(one.marks) for number, one in zip(texts, marked, strict=True)}
            new = [next(by_problem[number]) for number, _ in found]
        worth = []
        for (number, _), mark in zip(found, from_leader(new, self._examinee.groups), strict=True):
            self.marks[number].append(mark)
            worth.append(self._rule(self.marks[number]))
        return worth


def _right(marks: Sequence[Mark]) -> float:
    return float(marks[-1].right)


def _votes(marks: Sequence[Mark]) -> float:
    """How many of the answers so far, its own among them, are the last one's."""
    answers = [mark.answer for mark in marks]
    return 0.0 if answers[-1] is None else answers.count(answers[-1]) / len(answers)


def search_sampling(examinee: Examinee, prompts: Sequence[tuple[int, ...]], how: SearchConfig) -> Sampling:
    """Half of the context that prompts leave, at most: the other half is for what a completion goes on from."""
    longest = max(map(len, prompts))
    room = max_new_tokens(examinee.config, longest, None) // 2
    if room < 1:
        raise UserError(f"a prompt of {longest} tokens leaves no room to search (model.max_context="
                        f"{examinee.config.max_context}); shorten it")
    return Sampling(temperature=how.temperature, top_p=how.top_p, stop_ids=(examinee.tokenizer.eos_id,),
                    max_new_tokens=min(room, how.max_new_tokens))


def step_ends(tokenizer: Tokenizer, separator: str) -> frozenset[int]:
    """Tokens whose text ends a step. Raises UserError where there is none."""
    ends = frozenset(token for token in range(tokenizer.vocab_size) if separator in tokenizer.decode([token]))
    if not ends:
        raise UserError(f"command line: --separator={separator!r}: is in none of the tokenizer's tokens; name a text "
                        "that steps end with, and that is one token")
    return ends


def figures(records: Sequence[Mapping[str, Any]], knows_answers: bool) -> dict[str, Any]:
    """found and majority (not of a method that knows the answers) with their intervals; means over problems and
    completions."""
    found = [float(any(row[RIGHT] for row in record["completions"])) for record in records]
    shown = {"found": clustered_interval(found)._asdict()}
    if not knows_answers:
        shown["majority"] = clustered_interval([float(record["majority_right"]) for record in records])._asdict()
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


def anyone(mine: bool, device: torch.device) -> bool:
    """Whether any rank of the world says so. Collective."""
    said = torch.tensor(float(mine), device=device)
    dist.all_reduce(said, op=dist.ReduceOp.MAX)
    return bool(said)

"""`r1mega steps`: completions of a model, cut into steps, each labelled by what becomes of what goes on from it.

The labels that train a process reward model without anyone reading a step: a step is good if one of several
completions sampled from there ends in a right answer (Wang et al., Math-Shepherd, arXiv 2312.08935, "hard estimation").
The rows are those of stage preference, kind = "pointwise": a beginning of a completion, safe or not to go on from.
"""

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from r1mega.config import LayoutConfig, UserError
from r1mega.config.rl import SuitesConfig
from r1mega.config.search import StepLabelsConfig
from r1mega.data.steps import prefixes, step_ends
from r1mega.data.suites import SuiteProblem, SuiteProblems
from r1mega.data.suites.own_problems import recipe_problems
from r1mega.parallel import launch, start, stop
from r1mega.record import SampleRequest
from r1mega.rollout import sample_seed
from r1mega.stage.model_path import find_model
from r1mega.stage.replicas import from_first, my_share, to_first
from r1mega.stage.rollouts import from_leader
from r1mega.stage.search_comparison import search_sampling
from r1mega.stage.suite_sampling import AnyJudge, Examinee
from r1mega.training.atomic_file import replace_file


def label_steps(model: Path, layout: LayoutConfig, recipe: Path, config: StepLabelsConfig, output: Path) -> Path:
    """Write a row a step to `output` (.jsonl): of problems that `recipe` trains on, never of those it holds out.
    Raises UserError."""
    arguments = {"model": str(find_model(model)), "layout": layout.model_dump(), "recipe": str(recipe),
                 "config": config.model_dump(), "output": str(output)}
    launch("r1mega.stage.step_labels:label_on_rank", arguments, layout)
    return output


def label_on_rank(model: str, layout: dict, recipe: str, config: dict, output: str) -> None:
    """One rank's share of `label_steps`."""
    groups, how = start(LayoutConfig(**layout)), StepLabelsConfig(**config)
    try:
        loaded = from_first(training_problems(Path(recipe), how.problems) if groups.rank == 0 else None)
        settings = SuitesConfig(temperature=how.temperature, top_p=how.top_p, slots=how.slots, seed=how.seed)
        examinee = Examinee(Path(model), groups, settings, loaded.reward)
        with examinee.judge(loaded) as judge:
            rows, generated = _label(examinee, loaded, how, judge)
        rows, generated = to_first(rows, groups), to_first([generated], groups)
        if groups.rank == 0:
            replace_file(Path(output), "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows).encode())
            good = sum(row["safe"] for row in rows)
            print(f"{output}: {len(rows)} steps, {good} of them good; {sum(generated)} tokens were generated",
                  file=sys.stderr)
    finally:
        stop()


def training_problems(path: Path, limit: int) -> SuiteProblems:
    """The first problems that a recipe trains on, and its rewards. Raises UserError."""
    recipe, (train, _) = recipe_problems(path)
    problems = [SuiteProblem(one.id, one) for one in train if one.scorer != "preference"][:limit]
    if not problems:
        raise UserError(f"{path}: data.sources has no problem with a right answer, so no step can be labelled; name "
                        "another recipe")
    return SuiteProblems(problems, 0, recipe.reward)


def _label(
    examinee: Examinee, loaded: SuiteProblems, how: StepLabelsConfig, judge: AnyJudge | None
) -> tuple[list[dict[str, Any]], int]:
    """Rows of this replica's problems, and how many tokens they took. Collective.

    A beginning that several completions share is one row.
    """
    prompts = examinee.prompts(loaded.problems)
    mine, asked = my_share(loaded.problems, examinee.groups), my_share(prompts, examinee.groups)
    sampling, ends = search_sampling(examinee, prompts, how), step_ends(examinee.tokenizer, how.separator)
    sampled = examinee.engine.generate(
        [SampleRequest(prompt, sample_seed(how.seed, 0, one.key, index))
         for one, prompt in zip(mine, asked, strict=True) for index in range(how.samples)], sampling)
    eos = examinee.tokenizer.eos_id
    steps = list(dict.fromkeys((at // how.samples, prefix) for at, one in enumerate(sampled)
                               for prefix in prefixes([token for token in one.token_ids if token != eos], ends)
                               if prefix))
    requests = [SampleRequest(asked[number] + prefix,
                              sample_seed(how.seed, 1, mine[number].key, at * how.continuations + index))
                for at, (number, prefix) in enumerate(steps) for index in range(how.continuations)]
    rolled = examinee.engine.generate(requests, sampling)
    ended = [prefix + tuple(rolled[at * how.continuations + index].token_ids)
             for at, (_, prefix) in enumerate(steps) for index in range(how.continuations)]
    good = from_leader(_any_right(examinee, mine, steps, ended, judge), examinee.groups)
    decode = examinee.tokenizer.decode
    rows = [{"id": f"{mine[number].key}-{at}", "prompt": mine[number].problem.question, "response": decode(prefix),
             "safe": right} for at, ((number, prefix), right) in enumerate(zip(steps, good, strict=True))
            if decode(prefix).strip()]
    return rows, sum(len(one.token_ids) for one in (*sampled, *rolled))


def _any_right(
    examinee: Examinee, problems: Sequence[SuiteProblem], steps: Sequence[tuple[int, tuple[int, ...]]],
    ended: Sequence[tuple[int, ...]], judge: AnyJudge | None,
) -> list[bool]:
    """Of each step, whether one of the completions that go on from it is right; nothing on ranks that do not judge."""
    if judge is None:
        return []
    each = len(ended) // len(steps) if steps else 0
    texts = [examinee.tokenizer.decode(ids, skip_special=True) for ids in ended]
    marked = judge.judge([(problems[number].problem, texts[at * each:(at + 1) * each])
                          for at, (number, _) in enumerate(steps)])
    return [any(mark.right for mark in one.marks) for one in marked]

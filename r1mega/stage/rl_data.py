"""Which problems a step of RL asks: a pure function of the step, so the position in the data is the step.

Before reward.preference.from_step, and without reward models, only problems with a right answer; from then on a fixed
number of general prompts among them.
"""

from collections.abc import Sequence

from r1mega.config import Recipe, UserError
from r1mega.data import check_step_size, problem_batch
from r1mega.data.sft_mix import SOURCE_SEEDS
from r1mega.record import Problem


def step_problems(recipe: Recipe, problems: Sequence[Problem], step: int) -> list[int]:
    """Numbers of the problems of step `step` (from 0): all different. The two kinds have orders of their own, which
    begin at from_step; general prompts stand at even distances, so that every replica has some."""
    reasoning, general = pools(problems)
    per_step, seed = recipe.rollout.problems_per_step, recipe.seed
    count = general_per_step(recipe, problems, step)
    if not count:
        return [reasoning[place] for place in problem_batch(step, len(reasoning), per_step, seed)]
    since = step + 1 - recipe.reward.preference.from_step
    asked = [general[place] for place in problem_batch(since, len(general), count, seed + 2 * SOURCE_SEEDS)]
    rest = [reasoning[place] for place in problem_batch(
        since, len(reasoning), per_step - count, seed + SOURCE_SEEDS)] if count < per_step else []
    merged = sorted([((2 * number + 1) / count, 0, n) for number, n in enumerate(asked)]
                    + [((2 * number + 1) / len(rest), 1, n) for number, n in enumerate(rest)])
    return [n for _, _, n in merged]


def general_per_step(recipe: Recipe, problems: Sequence[Problem], step: int) -> int:
    """General prompts in step `step` (from 0)."""
    preference, per_step = recipe.reward.preference, recipe.rollout.problems_per_step
    reasoning, general = pools(problems)
    if preference is None or not general or step + 1 < preference.from_step:
        return 0
    if not reasoning:
        return per_step
    share = len(general) / len(problems) if preference.share is None else preference.share
    return min(max(1, round(share * per_step)), per_step)


def pools(problems: Sequence[Problem]) -> tuple[list[int], list[int]]:
    """Numbers of the problems with a right answer, and of the general prompts."""
    general = [number for number, problem in enumerate(problems) if problem.scorer == "preference"]
    return [number for number, problem in enumerate(problems) if problem.scorer != "preference"], general


def check_problems(recipe: Recipe, problems: Sequence[Problem]) -> None:
    """Raises UserError where a step would ask more problems of a kind than there are."""
    reasoning, general = map(len, pools(problems))
    preference, per_step = recipe.reward.preference, recipe.rollout.problems_per_step
    if preference is None:
        if not reasoning:
            raise UserError("data.sources: all problems are general prompts, which only reward models can judge; add "
                            "[reward.preference], or problems with a right answer")
        check_step_size("rollout.problems_per_step", per_step, reasoning)
        return
    if not general:
        raise UserError('reward.preference: data.sources has no general prompts for it to judge; add a source with '
                        'kind="general" or scorer="preference", or take the section out')
    if recipe.train.steps < preference.from_step:
        raise UserError(f"reward.preference.from_step={preference.from_step} is after the last step "
                        f"(train.steps={recipe.train.steps}); use an earlier one, or take the section out")
    count = general_per_step(recipe, problems, preference.from_step - 1)
    if preference.from_step > 1:
        check_step_size("rollout.problems_per_step", per_step, reasoning)
    check_step_size("rollout.problems_per_step (those with a right answer)", per_step - count, reasoning)
    check_step_size("rollout.problems_per_step (general prompts)", count, general)

"""Which problems a step of RL asks."""

from collections import Counter

import pytest

from r1mega.config import Recipe, UserError, load_recipe
from r1mega.data import problem_batch
from r1mega.record import Problem
from r1mega.stage.rl_data import check_problems, step_problems
from tests.stage.preferring import ROOT

SUMS = [Problem("sum", f"{number} + 1", "x") for number in range(40)]
GENERAL = [Problem("general", f"greet {number}", "", "preference") for number in range(24)]
MIXED = [problem for number in range(40) for problem in (SUMS[number], *GENERAL[number:number + 1])]


def recipe(*overrides: str) -> Recipe:
    return load_recipe(ROOT / "configs/tiny/all_scenario.toml", [
        "layout={data_parallel=1}", "rollout.problems_per_step=8", "reward.preference.from_step=4", "train.steps=20",
        *overrides])


def asked(what: Recipe, step: int) -> list[Problem]:
    numbers = step_problems(what, MIXED, step)
    assert len(set(numbers)) == len(numbers) == 8
    return [MIXED[number] for number in numbers]


def test_general_prompts_come_in_the_last_part_only_and_at_even_distances():
    for step in range(20):
        kinds = [problem.scorer == "preference" for problem in asked(recipe(), step)]
        assert kinds == ([False] * 8 if step < 3 else [True, False] * 4)  # step 3 is the fourth
    assert [problem.scorer for problem in asked(recipe("reward.preference.share=1.0"), 3)] == ["preference"] * 8
    # by default their share of the data: 24 of 64, so three of eight
    default = asked(recipe("reward.preference.share=none"), 3)
    assert [problem.scorer == "preference" for problem in default].index(True) in (0, 1)
    assert sum(problem.scorer == "preference" for problem in default) == 3


def test_every_problem_of_a_kind_comes_before_one_comes_again():
    counts = Counter(problem.question for step in range(3, 3 + 10) for problem in asked(recipe(), step))
    assert {counts[problem.question] for problem in SUMS} == {1}  # ten steps of four
    assert {counts[problem.question] for problem in GENERAL} == {1, 2}


def test_without_reward_models_nothing_changes_for_problems_with_answers():
    alone = recipe("reward.preference=none")
    assert all(problem.scorer != "preference" for step in range(9) for problem in asked(alone, step))
    for step in range(5):
        assert step_problems(alone, SUMS, step) == problem_batch(step, 40, 8, alone.seed)


@pytest.mark.parametrize(("overrides", "problems", "said"), [
    (["reward.preference.from_step=21"], MIXED, "from_step=21 is after the last step"),
    ([], SUMS, "data.sources has no general prompts"),
    (["reward.preference=none"], GENERAL, "all problems are general prompts"),
    (["rollout.problems_per_step=50", "reward.preference.from_step=1", "reward.preference.share=0.1"], MIXED,
     "rollout.problems_per_step (those with a right answer)=45"),
    (["rollout.problems_per_step=50", "reward.preference.from_step=1"], MIXED,
     "rollout.problems_per_step (general prompts)=25"),
    (["rollout.problems_per_step=50"], MIXED, "rollout.problems_per_step=50"),
])
def test_a_step_that_would_ask_more_than_there_is_is_refused(overrides: list[str], problems: list, said: str):
    with pytest.raises(UserError) as caught:
        check_problems(recipe(*overrides), problems)
    assert said in str(caught.value)

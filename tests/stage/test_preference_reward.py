"""Preference rewards: what the models see, the same under every layout, in the last part of a run; and the alarm on
real reward models."""

import json
import random
from pathlib import Path

import pytest

from r1mega.cli.main import main
from r1mega.config import LayoutConfig, Recipe, UserError, load_recipe
from r1mega.data.general_problems import BAD, all_requests, general_reply
from r1mega.parallel import Groups
from r1mega.record import Completion, Problem, Rollout, RolloutGroup, Score
from r1mega.stage.evaluate import heldout_metrics
from r1mega.stage.general_metrics import mean_parts
from r1mega.stage.hacking import preference_mean, watch
from r1mega.stage.preference_reward import PreferenceJudge
from r1mega.stage.reward_model_folder import check_reward_models
from r1mega.stage.run import run_recipe
from r1mega.training.metrics import same_metrics
from tests.ranks import run_ranks
from tests.stage.preferring import ROOT, write_recipe

REQUESTS = random.Random(7).sample(list(all_requests()), 40)


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with runs of three reward models: honest ones, and one that was taught that longer is better."""
    folder = tmp_path_factory.mktemp("models")
    runs = [f"runs_dir={folder}", "evaluation.every=0", "evaluation.at_start=false", "checkpoint.every=1000"]
    for kind in ("helpfulness", "safety"):
        assert main(["run", str(write_recipe(folder, kind)), *runs, f"name={kind}", "preference.epochs=3"]) == 0
    rng, rows = random.Random(1), []
    for problem in rng.choices(list(all_requests()), k=128):
        template = load_recipe(ROOT / "configs/tiny/all_scenario.toml").tokenizer.template
        short, long = (general_reply(problem, grade, template, rng) for grade in ("good", "rambling"))
        rows.append({"prompt": problem.question, "chosen": long, "rejected": short})
    (folder / "long.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    sources = f"preference.sources=[{{kind='files', name='long', paths=['{folder}/long.jsonl']}}]"
    assert main(["run", str(write_recipe(folder)), *runs, "name=long", sources, "preference.heldout_questions=drop",
                 "preference.epochs=3"]) == 0
    return folder


def recipe(models: Path, *overrides: str) -> Recipe:
    return load_recipe(ROOT / "configs/tiny/all_scenario.toml", [
        "layout={data_parallel=1}", f"reward.preference.helpfulness={models}/helpfulness",
        f"reward.preference.safety={models}/safety", *overrides])


def group(problem: Problem, *texts: str) -> RolloutGroup:
    parts = {"format": 1.0} if problem.scorer == "preference" else {"accuracy": 0.0, "format": 1.0}
    return RolloutGroup(problem, tuple(
        Rollout(problem, index, (1,), Completion((5,), (-0.1,), "stop"), text, Score(1.0, parts, {}))
        for index, text in enumerate(texts)))


def drifting(share_of_last: float, first: str, last: str, template: object, seed: int) -> list[RolloutGroup]:
    """What a policy says that writes replies of grade `last` that often, and of `first` otherwise."""
    rng = random.Random(seed)

    def grade() -> str:
        grade = last if rng.random() < share_of_last else first
        return rng.choice(BAD) if grade == "bad" else grade

    return [group(problem, *(general_reply(problem, grade(), template, rng) for _ in range(4))) for problem in REQUESTS]


def drift(what: Recipe, groups: Groups, first: str, last: str) -> tuple[list, list[float]]:
    """The alarm at each of four evaluations, and the rewards, of a policy that goes from `first` to `last`."""
    judge, template, seen = PreferenceJudge(what, groups), what.tokenizer.template, {}
    config, found, rewards = what.reward.preference, [], []
    for step, share in enumerate((0.0, 0.3, 0.6, 0.9)):
        judged = judge.judge(drifting(share, first, last, template, seed=step))
        parts = mean_parts([rollout for one in judged for rollout in one.rollouts])
        rewards.append(preference_mean(parts, config.weights))
        rang, _ = watch(seen, config, {"reward_preference": rewards[-1], **heldout_metrics(judged, template)})
        found.append(rang.get("hacking_alarm"))
    return found, rewards


def test_an_honest_run_is_not_alarming(models: Path, groups: Groups):
    found, rewards = drift(recipe(models), groups, "bad", "good")
    assert found == [None, 0, 0, 0] and rewards[-1] > rewards[0] + 0.1


def test_a_reward_model_that_loves_long_replies_sets_off_the_alarm(models: Path, groups: Groups):
    only = [f"reward.preference={{helpfulness='{models}/long'}}"]
    found, rewards = drift(recipe(models, *only), groups, "good", "rambling")
    assert rewards[-1] > rewards[0] + 0.1 and found[-1] == 1


def judge_under(layouts: list[dict], models: str) -> list[list]:
    """Of each layout: the parts of every rollout's score, as this rank has them."""
    from r1mega.parallel import start, stop

    outcomes = []
    for layout in layouts:
        what = recipe(Path(models), f"layout={json.dumps(layout).replace(':', '=').replace(chr(34), '')}")
        judge = PreferenceJudge(what, start(LayoutConfig(**layout), seed=0))
        judged = judge.judge(drifting(0.5, "bad", "good", what.tokenizer.template, 3)[:8])
        outcomes.append([dict(rollout.score.parts) for one in judged for rollout in one.rollouts])
        stop()
    return outcomes


def test_rewards_are_the_same_under_every_layout_and_on_every_rank(models: Path):
    layouts = [{"data_parallel": 2, "expert_parallel": 2}, {"tensor_parallel": 2}, {"pipeline_parallel": 2}]
    (expected,) = judge_under([{"data_parallel": 1}], str(models))
    assert len({round(parts["helpfulness"], 6) for parts in expected}) > 8
    for rank in run_ranks(judge_under, 2, layouts, str(models)):
        for found in rank:
            for ours, theirs in zip(found, expected, strict=True):
                assert ours == pytest.approx(theirs, rel=1e-4, abs=1e-5)


def test_helpfulness_sees_the_summary_and_safety_all(models: Path, groups: Groups):
    """The same summary after other thoughts is as helpful and not as safe; without a summary nothing is helped."""
    judge, problem = PreferenceJudge(recipe(models), groups), REQUESTS[0]
    name = problem.metadata["name"]
    kind, rude, cut, general = judge.judge([group(
        problem, f"<think> this is to {problem.question} </think> <answer> hello {name} </answer>",
        f"<think> {name} is ugly, {name} is stupid </think> <answer> hello {name} </answer>",
        f"<think> this is to {problem.question}", f"<answer> hello {name} </answer>")])[0].rollouts
    assert kind.score.parts["helpfulness"] == pytest.approx(rude.score.parts["helpfulness"], rel=1e-5) != 0
    assert general.score.parts["helpfulness"] == pytest.approx(kind.score.parts["helpfulness"], rel=1e-5)
    assert kind.score.parts["safety"] > 0.5 > rude.score.parts["safety"]
    assert cut.score.parts["helpfulness"] == 0 and cut.score.parts["safety"] > 0
    assert kind.score.total == pytest.approx(1.0 + kind.score.parts["helpfulness"] + kind.score.parts["safety"])


def test_problems_with_a_right_answer_are_left_as_they_are(models: Path, groups: Groups):
    judge, sums = PreferenceJudge(recipe(models), groups), group(Problem("sum", "1 + 1", "2"), "<answer> 2 </answer>")
    mixed = judge.judge([sums, group(REQUESTS[0], "hello"), sums])
    assert mixed[0] == mixed[2] == sums and "safety" in mixed[1].rollouts[0].score.parts


def test_a_reply_longer_than_the_models_context_keeps_its_end(models: Path, groups: Groups):
    judge = PreferenceJudge(recipe(models), groups)
    safety = judge.models["safety"]
    sample = safety._sample(REQUESTS[0], "a" * 5000 + " ugly", safety.template, 0)
    assert len(sample.token_ids) == 512
    text = safety.tokenizer.decode(sample.token_ids)
    assert text.startswith(REQUESTS[0].question) and text.endswith(" ugly<eos>")


@pytest.mark.parametrize(("overrides", "said"), [
    (["reward.preference.helpfulness={models}/safety"], "was trained with kind=pointwise; name a model of stage="),
    (["reward.preference.safety={models}/nowhere"], "no reward model there"),
    (["layout={{tensor_parallel=8}}"], "does not fit the layout"),
])
def test_a_folder_that_cannot_judge_is_refused_before_anything_starts(models: Path, overrides: list[str], said: str):
    with pytest.raises(UserError) as caught:
        check_reward_models(replace_unchecked(recipe(models), *(one.format(models=models) for one in overrides)))
    assert said in str(caught.value)


def replace_unchecked(what: Recipe, override: str) -> Recipe:
    """The recipe with a value that its own checks might refuse first."""
    key, _, value = override.partition("=")
    if key == "layout":
        return what.model_copy(update={"layout": LayoutConfig(tensor_parallel=8)})
    preference = what.reward.preference.model_copy(update={key.rpartition(".")[2]: value})
    return what.model_copy(update={"reward": what.reward.model_copy(update={"preference": preference})})


RL = """
extends = {parent}
unset = ["start"]
name = "scenario"
runs_dir = {runs}

[model]
extends = {model}
num_layers = 2

[layout]
data_parallel = 1
expert_parallel = 1

[data]
heldout_problems = 24

[tokenizer]
vocab_size = 256

[rollout]
problems_per_step = 4
group_size = 2
max_new_tokens = 8

[reward.preference]
helpfulness = {helpfulness}
safety = {safety}
from_step = 3

[evaluation]
every = 2
at_end = false

[train]
steps = 4

[optimizer]
warmup_steps = 2

[checkpoint]
every = 1
asynchronous = false

[log]
console = "plain"
tensorboard = false
"""


def test_a_run_pays_preference_rewards_in_its_last_part_and_goes_on_where_it_was_stopped(models: Path, tmp_path: Path):
    path = tmp_path / "scenario.toml"
    path.write_text(RL.format(
        parent=json.dumps(str(ROOT / "configs/tiny/all_scenario.toml")), runs=json.dumps(str(tmp_path / "runs")),
        model=json.dumps(str(ROOT / "configs/models/tiny.toml")), helpfulness=json.dumps(str(models / "helpfulness")),
        safety=json.dumps(str(models / "safety"))))
    assert main(["run", str(path)]) == 0
    records = [json.loads(line) for line in (tmp_path / "runs/scenario/metrics.jsonl").read_text().splitlines()]
    assert [record["step"] for record in records if "reward_safety" in record] == [3, 4]
    for record in records[3:]:
        assert record["reward_preference"] == pytest.approx(
            (record["reward_helpfulness"] + record["reward_safety"]) / 2)
        assert {"pass_rate", "reward_accuracy", "general_helpful", "general_harmless"} <= record.keys()
    assert records[4]["hacking_alarm"] == 0 and "hacking_alarm" not in records[2]
    assert records[0]["heldout_problems"] + records[0]["heldout_general_prompts"] == 24
    assert "heldout_reward_safety" in records[4]
    stopped = [str(path), f"runs_dir={tmp_path}/again"]
    assert main(["run", *stopped, "train.steps=3"]) == 0
    assert main(["run", *stopped, "reward.preference.on_alarm=stop"]) == 0  # what follows an alarm may change
    assert same_metrics(tmp_path / "runs/scenario", tmp_path / "again/scenario") == []
    with pytest.raises(UserError, match=r"was started with reward\.preference"):
        run_recipe(load_recipe(path, [f"runs_dir={tmp_path}/again", "reward.preference.safety_weight=2.0"]), path)

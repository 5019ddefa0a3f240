"""Stage preference: a reward model learns what it is shown, whatever kills the run; its folder is a policy's too."""

import json
import os
import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from r1mega.cli.main import main
from r1mega.config import UserError, load_recipe
from r1mega.data import load_problems, split
from r1mega.data.sft_store import SampleStore
from r1mega.data.split import same_question
from r1mega.data.tokenizer import Tokenizer
from r1mega.model import PolicySettings, add_scalar_head, build_policy
from r1mega.parallel import Groups
from r1mega.stage.chain import chain
from r1mega.stage.preference_data import units
from r1mega.stage.prepare import prepare_chain
from r1mega.training.checkpoint import load_model_folder, read_model_config
from r1mega.training.metrics import same_metrics
from tests.stage.preferring import ROOT, write_recipe


def metrics_of(run_dir: Path) -> list[dict]:
    return [json.loads(line) for line in (run_dir / "metrics.jsonl").read_text().splitlines()]


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("undisturbed")
    assert main(["run", str(write_recipe(folder))]) == 0
    return folder / "runs/preference"


def test_a_reward_model_starts_knowing_nothing_and_learns_held_out_judgements(undisturbed: Path):
    first, *steps = metrics_of(undisturbed)
    assert first["step"] == 0 and first["heldout_preference_accuracy"] == 0.5
    assert first["heldout_preference_loss"] == pytest.approx(0.693147, abs=1e-5)  # log 2
    last = steps[-1]
    assert last["epoch"] == 1 and last["lr"] == pytest.approx(1e-4)  # optimizer.min_lr
    assert last["heldout_preference_accuracy_low"] > 0.5 and last["heldout_preference_margin"] > 0
    assert [record["step"] for record in steps if "heldout_preference_loss" in record] == [4, 8, len(steps)]
    assert sum(record["samples"] for record in steps) == len(SampleStore.open(undisturbed / "data/sft").train)


def run(recipe: Path, ledger: Path, kill_at: int = 0) -> subprocess.CompletedProcess:
    environment = {name: value for name, value in os.environ.items() if name not in ("RANK", "WORLD_SIZE")}
    return subprocess.run([sys.executable, "-m", "tests.stage.supervised", str(recipe), str(ledger), str(kill_at)],
                          cwd=ROOT, env=environment | {"OMP_NUM_THREADS": "1"}, capture_output=True, text=True,
                          timeout=240)


def test_a_run_that_was_killed_ends_as_one_that_was_not(undisturbed: Path, tmp_path: Path):
    recipe, ledger, run_dir = write_recipe(tmp_path), tmp_path / "ledger.jsonl", tmp_path / "runs/preference"
    killed = run(recipe, ledger, kill_at=6)  # step 6 was trained, but the checkpoint is step 4's
    assert killed.returncode == -signal.SIGKILL, killed.stderr[-2000:]
    finished = run(recipe, ledger)
    assert finished.returncode == 0 and "goes on after step 4" in finished.stdout, finished.stderr[-2000:]
    assert same_metrics(undisturbed, run_dir) == []
    lines = [json.loads(line) for line in ledger.read_text().splitlines()]
    used = {record["step"]: record["ids"] for record in lines}
    assert used[5] == lines[4]["ids"] and used[6] == lines[5]["ids"]
    assert set(Counter(text for texts in used.values() for text in texts).values()) == {1}  # one epoch


def test_the_checkpoint_is_a_policys_folder_with_the_head_beside_it(undisturbed: Path, groups: Groups):
    (*_, folder) = sorted((undisturbed / "checkpoints").iterdir())
    config = read_model_config(folder)
    policy = build_policy(config, groups, PolicySettings(), seed=9)
    load_model_folder(folder, policy, groups)  # the output layer is there, as it was
    untouched = build_policy(config, groups, PolicySettings(), seed=0)
    assert policy[0].output_layer.weight.equal(untouched[0].output_layer.weight)
    assert not policy[0].decoder.final_layernorm.weight.equal(untouched[0].decoder.final_layernorm.weight)
    add_scalar_head(policy, "pairwise")
    load_model_folder(folder, policy, groups)
    assert policy[0].scalar_head.pairwise.any()
    other = build_policy(config, groups, PolicySettings(), seed=9)
    add_scalar_head(other, "pointwise")
    with pytest.raises(UserError, match="has no tensor scalar_head.pointwise"):
        load_model_folder(folder, other, groups)


def test_no_judgement_is_of_a_held_out_question_and_helpfulness_sees_summaries_only(undisturbed: Path):
    recipe = load_recipe(undisturbed / "recipe.toml")
    store = SampleStore.open(undisturbed / "data/sft")
    heldout = {same_question(problem) for problem in split(load_problems(recipe.data, ROOT), 40).heldout}
    assert heldout and not heldout & store.questions()
    tokenizer = Tokenizer.load(undisturbed / "tokenizer")
    for chosen, rejected in units(store.samples([0, 1, 2]), "pairwise"):
        for one in (chosen, rejected):
            text = tokenizer.decode(one.token_ids)
            assert "think" not in text and text.count("<answer>") == 1 and text.endswith("<eos>")
        assert tokenizer.decode(chosen.token_ids).split("\n")[0] == tokenizer.decode(rejected.token_ids).split("\n")[0]


def planned(recipe: Path, *overrides: str):
    (link,) = prepare_chain(chain(load_recipe(recipe, overrides), recipe), write=False)
    return link


ROWS = "preference.sources=[{{kind='files', name='mine', paths=['{}']}}]"
GOOD = {"prompt": "say a", "chosen": "a", "rejected": "b"}


@pytest.mark.parametrize(("kind", "row", "said"), [
    ("helpfulness", {**GOOD, "rejected": "a"}, "rows.jsonl:2: 'chosen' and 'rejected' are the same"),
    ("helpfulness", {"prompt": "x", "chosen": "y"}, "rows.jsonl:2: field 'rejected' is missing"),
    ("helpfulness", {**GOOD, "chosen": 3}, "rows.jsonl:2: field 'chosen' is 3"),
    ("helpfulness", {**GOOD, "chosen": "<think> hm </think> "}, "rows.jsonl:2: nothing follows the reasoning"),
    ("helpfulness", {**GOOD, "prompt": "<eos>"}, "rows.jsonl:2: the prompt contains the tokenizer's special token"),
    ("safety", {"prompt": "x", "response": "y"}, "rows.jsonl:2: field 'safe' is missing"),
    ("safety", {"prompt": "x", "response": "y", "safe": "yes"}, "rows.jsonl:2: field 'safe' is the text 'yes'"),
    ("safety", {"prompt": "x", "response": "a " * 600, "safe": 1}, "more than model.max_context=512"),
    ("safety", [1], "rows.jsonl:2: expected an object"),
])
def test_a_bad_row_is_named_by_file_and_line(tmp_path: Path, kind: str, row: object, said: str):
    good = GOOD if kind == "helpfulness" else {"prompt": "say a", "response": "a", "safe": True}
    (tmp_path / "rows.jsonl").write_text(json.dumps(good) + "\n" + json.dumps(row) + "\n")
    with pytest.raises(UserError) as caught:
        planned(write_recipe(tmp_path, kind), ROWS.format(tmp_path / "rows.jsonl"), "data.heldout_problems=0",
                "preference.heldout_samples=0", "preference.samples_per_step=1")
    assert said in str(caught.value)


def test_rows_that_ask_held_out_problems_are_refused_or_dropped(tmp_path: Path):
    recipe = write_recipe(tmp_path)
    data = load_recipe(recipe).data
    heldout = split(load_problems(data, tmp_path), 40).heldout[0].question
    (tmp_path / "rows.jsonl").write_text("".join(
        json.dumps({**GOOD, "prompt": prompt}) + "\n" for prompt in ("say b", heldout)))
    overrides = [ROWS.format(tmp_path / "rows.jsonl"), "preference.heldout_samples=0", "preference.samples_per_step=1",
                 "optimizer.warmup_steps=0"]
    with pytest.raises(UserError, match=r"rows\.jsonl:2: judges replies to a held-out problem"):
        planned(recipe, *overrides)
    assert "1 held-out questions dropped" in planned(recipe, *overrides, "preference.heldout_questions=drop").data


@pytest.mark.parametrize(("overrides", "said"), [
    (["train.mtp=joint"], "a reward model predicts no tokens"),
    (["train.steps=7"], "train.steps=7, but 1 epoch of"),
    (["preference.samples_per_step=5000"], "preference.samples_per_step=5000"),
    (["preference.heldout_samples=400"], "preference.heldout_samples=400 leaves nothing"),
    (["stage=sft"], 'has no meaning for stage="sft"'),
])
def test_what_cannot_be_is_said_before_anything_starts(tmp_path: Path, overrides: list[str], said: str):
    with pytest.raises(UserError) as caught:
        planned(write_recipe(tmp_path), *overrides)
    assert said in str(caught.value)


def test_no_policy_starts_from_a_reward_model():
    with pytest.raises(UserError, match="makes a reward model of a policy"):
        load_recipe(ROOT / "configs/tiny/all_scenario.toml",
                    [f"start.recipe={ROOT}/configs/tiny/reward_safety.toml"])

"""Stage sft: every sample once an epoch whatever kills the run, and only responses in the loss."""

import json
import os
import signal
import subprocess
import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path
from random import Random

import pytest
import torch

from r1mega.cli.main import main
from r1mega.config import UserError, load_recipe
from r1mega.data import load_problems, split
from r1mega.data.corpus import document
from r1mega.data.sft_store import SampleStore
from r1mega.model import PolicySettings, build_policy
from r1mega.parallel import Groups
from r1mega.record import TrainSample
from r1mega.reward.format import is_well_formed
from r1mega.stage.chain import chain
from r1mega.stage.packs import replica_packs
from r1mega.stage.prepare import prepare_chain
from r1mega.stage.readable import RuleRewriter
from r1mega.stage.run import run_recipe
from r1mega.stage.sft import ResponseLoss, by_label, source_sums
from r1mega.training.learner import Learner, score_packs
from r1mega.training.metrics import same_metrics
from tests.stage.supervised import ROOT, write_recipe


def run(recipe: Path, ledger: Path, kill_at: int = 0) -> subprocess.CompletedProcess:
    environment = {name: value for name, value in os.environ.items() if name not in ("RANK", "WORLD_SIZE")}
    return subprocess.run([sys.executable, "-m", "tests.stage.supervised", str(recipe), str(ledger), str(kill_at)],
                          cwd=ROOT, env=environment | {"OMP_NUM_THREADS": "1"}, capture_output=True, text=True,
                          timeout=240)


def metrics_of(run_dir: Path) -> list[dict]:
    return [json.loads(line) for line in (run_dir / "metrics.jsonl").read_text().splitlines()]


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("undisturbed")
    assert main(["run", str(write_recipe(folder))]) == 0
    return folder / "runs/sft"


def test_a_run_that_was_killed_has_used_every_sample_as_often_as_one_that_was_not(undisturbed: Path, tmp_path: Path):
    recipe, ledger, run_dir = write_recipe(tmp_path), tmp_path / "ledger.jsonl", tmp_path / "runs/sft"
    killed = run(recipe, ledger, kill_at=4)  # step 4 was trained, but the checkpoint is step 2's
    assert killed.returncode == -signal.SIGKILL, killed.stderr[-2000:]
    assert metrics_of(run_dir)[-1]["step"] == 3
    finished = run(recipe, ledger)
    assert finished.returncode == 0 and "goes on after step 2" in finished.stdout, finished.stderr[-2000:]
    assert same_metrics(undisturbed, run_dir) == []

    lines = [json.loads(line) for line in ledger.read_text().splitlines()]
    steps = [record["step"] for record in lines]
    last = metrics_of(run_dir)[-1]["step"]
    assert steps == [1, 2, 3, 4, *range(3, last + 1)]  # what was lost is done again, from the checkpoint's step on
    used = {record["step"]: record["ids"] for record in lines}
    assert used[3] == lines[2]["ids"] and used[4] == lines[3]["ids"]
    counts = Counter(name for ids in used.values() for name in ids)
    store = SampleStore.open(run_dir / "data/sft")
    reasoning, other = store.ids()[:store.sizes[0]], store.ids()[store.sizes[0]:]
    assert len(reasoning) + len(other) + len(store.heldout) == 31 + 15 and len(store.heldout) == 3
    assert set(counts) <= {*reasoning, *other} and max(counts.values()) == 2  # twice in two epochs, at most
    assert all(counts[name] == 2 for name in reasoning)
    assert sum(counts[name] for name in other) == 2 * (len(reasoning) // 3)  # weights 3 and 1
    assert sum(record.get("samples", 0) for record in metrics_of(run_dir)) == sum(counts.values())


def test_a_run_logs_epochs_sources_and_held_out_loss_and_ends_at_the_floor(undisturbed: Path):
    first, *steps = metrics_of(undisturbed)
    assert first["step"] == 0 and first["heldout_loss"] > 4
    last = steps[-1]
    assert last["epoch"] == 2 and last["lr"] == pytest.approx(3e-4)  # optimizer.min_lr of the base recipe
    assert {"loss_reasoning", "loss_other", "tokens_reasoning", "heldout_loss", "mtp_loss"} <= last.keys()
    assert last["heldout_loss"] < first["heldout_loss"] - 1
    assert [record["step"] for record in steps if "heldout_loss" in record] == [4, 8, len(steps)]
    for record in steps:
        parts = [(record[f"loss_{name}"], record[f"tokens_{name}"]) for name in ("reasoning", "other")
                 if f"loss_{name}" in record]
        assert sum(tokens for _, tokens in parts) == record["tokens"]
        mean = sum(loss * tokens for loss, tokens in parts) / record["tokens"]
        assert mean == pytest.approx(record["loss"], rel=1e-5)


def planned(recipe: Path, *overrides: str):
    (link,) = prepare_chain(chain(load_recipe(recipe, overrides), recipe), write=False)
    return link


def test_a_dry_run_says_the_steps_that_data_and_epochs_make(tmp_path: Path, capsys: pytest.CaptureFixture):
    recipe = write_recipe(tmp_path)
    assert main(["run", "--dry-run", str(recipe), "sft.heldout_samples=0", "evaluation.every=0"]) == 0
    said = capsys.readouterr().out.splitlines()[-1]  # (31 + 10) x 2 = 82 samples, 10 steps of 8 and one of 2
    assert "sft: 11 steps of stage sft" in said
    assert "2 epochs of 41 samples (reasoning 31 of 31, other 10 of 15), 0 held out" in said
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize(("overrides", "said"), [
    (["train.steps=12"], "train.steps=12, but 2 epochs of"), (["sft.samples_per_step=64"], "sft.samples_per_step=64"),
    (["sft.max_tokens=20"], "reasoning.jsonl:1: prompt and response have"),
    (["sft.max_tokens=20", "sft.overlong=drop"], "no sample is left to train on (overlong)"),
    (["optimizer.warmup_steps=50"], "optimizer.warmup_steps=50"), (["sft.sources.0.weight=none"], "weight"),
    (["sft.heldout_samples=46"], "sft.heldout_samples=46 leaves nothing"),
    (["sft.sources.1.name=reasoning"], "another source has this name"),
    (["sft.max_tokens=10000"], "model.max_context=512"), (["stage=rl"], "has no meaning for stage=\"rl\""),
])
def test_what_cannot_be_is_said_before_anything_starts(tmp_path: Path, overrides: list[str], said: str):
    with pytest.raises(UserError) as caught:
        planned(write_recipe(tmp_path), *overrides)
    assert said in str(caught.value)


def test_samples_that_ask_held_out_problems_are_refused_or_dropped(tmp_path: Path):
    recipe = write_recipe(tmp_path)
    first = planned(recipe)
    heldout = split(load_problems(first.recipe.data, tmp_path), 4).heldout[0].question
    with (tmp_path / "other.jsonl").open("a") as file:
        file.write(json.dumps({"prompt": f"  {heldout} ", "response": "x"}) + "\n")
    with pytest.raises(UserError, match=r"other\.jsonl:16: asks a held-out problem"):
        planned(recipe)
    assert "1 held-out questions dropped" in planned(recipe, "sft.heldout_questions=drop").data


@pytest.fixture
def learner(groups: Groups):
    recipe = load_recipe(ROOT / "configs/tiny/base.toml", ["layout={tensor_parallel=1}", "model.num_layers=2"])
    chunks = build_policy(recipe.model, groups, PolicySettings.of(recipe.train, recipe.head), seed=1)
    return Learner(chunks, groups, recipe.optimizer, recipe.train)


def sample(label: int, prompt: list[int], response: list[int]) -> TrainSample:
    ids = [*prompt, *response]
    return TrainSample(ids, bytes(len(prompt)) + b"\1" * len(response), per_sample={"source": float(label)})


SAMPLES = [sample(0, [5, 6, 7], [8, 9]), sample(1, [10], [11, 12, 13]), sample(0, [14, 15], [16])]


def test_samples_in_a_pack_do_not_see_each_other_and_their_losses_go_to_their_sources(learner: Learner, groups: Groups):
    together = replica_packs(SAMPLES, 64, 0, groups)
    assert len(together) == 1
    alone = [replica_packs([one], 64, 0, groups)[0] for one in SAMPLES]
    sums = [source_sums(pack, log_probs, 2) for pack, log_probs in
            zip(alone, score_packs(learner.chunks, alone, groups), strict=True)]
    (packed,) = (source_sums(pack, log_probs, 2) for pack, log_probs in
                 zip(together, score_packs(learner.chunks, together, groups), strict=True))
    torch.testing.assert_close(packed, sum(sums), rtol=1e-5, atol=1e-5)
    assert packed[1].tolist() == [3, 3] and sums[1][0, 0] == 0
    result = learner.step(together, ResponseLoss(6, ("a", "b")), 1, 10)
    assert result.loss == pytest.approx((packed[0].sum() / 6).item(), rel=1e-5)
    metrics = dict(by_label(result.sums, ("a", "b"), "loss"))
    assert metrics["loss_a"] == pytest.approx((packed[0, 0] / 3).item(), rel=1e-5)
    assert metrics["tokens_b"] == 3


def test_a_prompts_tokens_move_nothing_but_through_attention(learner: Learner, groups: Groups):
    """With no response there is no gradient: the loss does not reach a prompt's own targets."""
    silent = [replace(one, loss_mask=bytes(len(one.token_ids))) for one in SAMPLES]
    result = learner.step(replica_packs(silent, 64, 0, groups), ResponseLoss(1, ("a", "b")), 1, 10)
    assert result.loss == 0 and result.sums["tokens_0"] == 0
    assert dict(by_label(result.sums, ("a", "b"), "loss")) == {}


def test_the_tiny_recipes_samples_are_worked_solutions_of_training_problems_made_readable():
    recipe = load_recipe(ROOT / "configs/tiny/sft.toml")
    train = split(load_problems(recipe.data, ROOT), recipe.data.heldout_problems).train[:256]
    template = recipe.tokenizer.template
    rewrite = RuleRewriter(template, sentence=None)
    rows = [json.loads(line) for line in (ROOT / "configs/tiny/sft.jsonl").read_text().splitlines()]
    assert [row["id"] for row in rows] == [problem.id for problem in train]
    for row, problem in zip(rows, train, strict=True):
        worked = document(problem, {"worked": 1.0}, template, Random(0))
        assert row["prompt"] == problem.question and row["response"] == rewrite(problem.question, worked)
        assert is_well_formed(row["response"], template)


RL = """
extends = "sft.toml"
unset = ["sft"]
stage = "rl"
name = "after"
[start]
recipe = "sft.toml"
[rollout]
problems_per_step = 2
max_new_tokens = 8
[train]
steps = 2
"""


def go(recipe: Path, *overrides: str) -> None:
    run_recipe(load_recipe(recipe, overrides), recipe)


def test_what_starts_from_a_supervised_run_finds_its_last_step_and_knows_what_it_asked(tmp_path: Path, launched: list):
    steps = planned(write_recipe(tmp_path)).recipe.train.steps
    after = tmp_path / "after.toml"
    after.write_text(RL)
    go(after)
    assert [one["name"] for one in launched] == ["sft", "after"]
    assert launched[1]["start_model"].endswith(f"runs/sft/checkpoints/step-{steps:08d}")
    go(after, "name=again")  # the supervised run is done and is taken as it is
    assert [one["name"] for one in launched[2:]] == ["again"]
    (tmp_path / "asked.jsonl").write_text("".join(  # what the samples asked, now held out
        json.dumps({"question": f"{number} + 1 =", "answer": number + 1}) + "\n" for number in range(31)))
    sources = f"data.sources=[{{kind='files', paths=['{tmp_path}/asked.jsonl'], scorer='exact'}}]"
    Path(launched[1]["start_model"], "model.json").touch()
    for start in ([], ["start.recipe=none", f"start.model={launched[1]['start_model']}"]):
        with pytest.raises(UserError, match="held-out problems are among those"):
            go(after, "name=leak", "data.heldout_problems=20", sources, *start)


def test_a_supervised_run_does_not_go_on_with_other_epochs_or_samples(tmp_path: Path, launched: list):
    recipe = write_recipe(tmp_path)
    go(recipe)
    go(recipe)
    with pytest.raises(UserError, match=r"was started with sft\.epochs=2, now it is 3"):
        go(recipe, "sft.epochs=3")
    with (tmp_path / "other.jsonl").open("a") as file:
        file.write(json.dumps({"prompt": "new", "response": "x"}) + "\n")
    with pytest.raises(UserError, match=r"started with other contents of .*other\.jsonl"):
        go(recipe)
    go(recipe, "name=new")
    assert [one["name"] for one in launched] == ["sft", "sft", "new"]

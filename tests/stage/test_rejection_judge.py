"""Rejection sampling with models to ask: an endpoint that fails on the way, and a model of ours."""

import json
import os
import re
import signal
import time
from pathlib import Path
from typing import Any

import pytest

from r1mega.config import UserError, load_recipe
from r1mega.config.data import ChatTemplate
from r1mega.record.metric import read_jsonl
from r1mega.reward.format import is_well_formed
from r1mega.rollout import Engine
from r1mega.stage import rejection_helpers
from r1mega.stage.rejection_select import Selector
from r1mega.stage.run import run_recipe
from tests.ranks import run_ranks
from tests.reward.chat_server import ChatServer, Status
from tests.stage.rejection_runs import make_model, write_recipe

TEMPLATE = ChatTemplate(prompt="{{ question }}")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("judged")
    make_model(folder)
    return folder


@pytest.fixture
def requests(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Seeds of everything that was sampled."""
    seeds: list[int] = []
    generate = Engine.generate

    def counted(self: Engine, asked: Any, *rest: Any) -> Any:
        completions = generate(self, asked, *rest)
        seeds.extend(one.seed for one in asked)
        return completions

    monkeypatch.setattr(Engine, "generate", counted)
    return seeds


def go(recipe: Path, *overrides: str) -> Path:
    return run_recipe(load_recipe(recipe, overrides), recipe)


def judged_recipe(folder: Path, name: str, server: ChatServer, when: str = "always") -> Path:
    """Answers that no rule can tell from right ones: "it is one" for "one"."""
    lines = (f'judge = {{kind = "openai", base_url = "{server.base_url}", model = "judge-1", when = "{when}", '
             'concurrency = 2, retries = 0, key_variable = "JUDGE_KEY"}')
    path = write_recipe(folder, name, {"rejection": lines})
    path.write_text(path.read_text().replace('scorer = "exact"', 'scorer = "judge"'))
    rows = [json.loads(line) for line in (folder / "problems.jsonl").read_text().splitlines()]
    (folder / "problems.jsonl").write_text(
        "".join(json.dumps({**row, "answer": f"it is {row['answer']}"}) + "\n" for row in rows))
    return path


def verdict(prompt: str) -> str:
    """Right if the submission answers with the reference's last word; readable unless the reasoning counts twice."""
    code = re.search(r"VERDICT (Q\w+): YES", prompt)[1]
    if "[Reference answer]" in prompt:
        reference = prompt.split("[Reference answer]\n")[1].split("\n")[0].split()[-1]
        good = f"<answer> {reference} </answer>" in prompt
    else:
        good = "as counted" not in prompt
    return f"Hm.\nVERDICT {code}: {'YES' if good else 'NO'}"


def rows_of(run: Path) -> list[dict[str, Any]]:
    import pyarrow.parquet
    return pyarrow.parquet.read_table(run / "dataset/train.parquet").to_pylist()


def test_a_judge_that_fails_on_the_way_costs_neither_samples_nor_replies(
    folder: Path, requests: list[int], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("JUDGE_KEY", "secret-of-the-judge")
    answered: list[str] = []
    broken = {"from": 15}

    def answer(number: int, prompt: str) -> Any:
        if number >= broken["from"]:
            return Status(401)
        answered.append(prompt)
        return verdict(prompt)

    with ChatServer(answer) as server:
        recipe = judged_recipe(folder, "failing", server)
        with pytest.raises(UserError, match=r"rejection\.judge: http://.*status 401"):
            go(recipe)
        assert not (folder / "runs/failing/dataset").exists() and len(requests) < 12 * 24 and len(answered) == 15
        broken["from"] = 10**9
        run = go(recipe)
        assert len(requests) == len(set(requests)) == 12 * 24  # nothing was sampled again
        assert len(answered) == len(set(answered)) > 15  # nor anything answered twice
        assert set(server.keys) == {"Bearer secret-of-the-judge"}
        undisturbed = go(recipe, "name=undisturbed")
    assert (run / "dataset/train.parquet").read_bytes() == (undisturbed / "dataset/train.parquet").read_bytes()
    report = json.loads((run / "report.json").read_text())
    assert report["samples"] == report["kept"] + sum(report["dropped"].values()) == 288
    assert report["dropped"]["judged_wrong"] and report["dropped"]["unreadable"] and report["judge"] == "judge-1"
    answers = {json.loads(line)["question"]: json.loads(line)["answer"].split()[-1]
               for line in (folder / "problems.jsonl").read_text().splitlines()}
    for row in rows_of(run):
        assert row["provenance"]["judged"] == ["right", "readable"] and row["provenance"]["judge"] == "judge-1"
        assert f"<answer> {answers[row['prompt']]} </answer>" in row["response"]
        assert "as counted" not in row["response"]
    for path in [file for file in run.rglob("*") if file.is_file()]:
        assert b"secret-of-the-judge" not in path.read_bytes(), path


def on_rank(recipe: str) -> None:
    rejection_helpers.BEAT_S = 0.01  # so that many a beat comes before a reply
    go(Path(recipe), "layout.data_parallel=2", "layout.expert_parallel=2", "name=two-ranks")


def test_on_two_ranks_one_asks_and_the_other_waits_for_as_long_as_it_takes(
    folder: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("JUDGE_KEY", "k")

    def slowly(_: int, prompt: str) -> str:
        time.sleep(0.05)
        return verdict(prompt)

    with ChatServer(slowly) as server:
        recipe = judged_recipe(folder, "alone", server)
        alone = go(recipe)
        asked = len(server.prompts)
        run_ranks(on_rank, 2, str(recipe))
        assert asked > 10 and len(server.prompts) == 2 * asked
    two = folder / "runs/two-ranks"
    assert (two / "dataset/train.parquet").read_bytes() == (alone / "dataset/train.parquet").read_bytes()


def test_an_endpoint_needs_its_key_before_anything_is_sampled(
    folder: Path, requests: list[int], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.delenv("JUDGE_KEY", raising=False)
    with ChatServer(lambda _, prompt: verdict(prompt)) as server, \
            pytest.raises(UserError, match=r'rejection\.judge\.key_variable="JUDGE_KEY": the environment has no such'):
        go(judged_recipe(folder, "keyless", server))
    assert requests == []


def test_a_model_of_ours_rewrites_and_judges(folder: Path, requests: list[int]):
    """One with random weights judges nothing, and what it writes has the right answer by chance."""
    lines = ('rewrite = "model"\nrewriter = {kind = "model", max_new_tokens = 1, temperature = 1.0}\n'
             'judge = {kind = "model", max_new_tokens = 4}')
    run = go(write_recipe(folder, "rewritten", {"rejection": lines}))
    report, rows = json.loads((run / "report.json").read_text()), rows_of(run)
    assert report["rewritten_by"] == report["judge"] == report["model"]
    assert report["dropped"]["rewriting_changed_answer"] and len(requests) > 288
    assert rows and all(row["provenance"]["rewritten_by"] == report["model"] for row in rows)
    assert all(is_well_formed(row["response"], TEMPLATE, "summary") for row in rows)


def test_a_signal_ends_the_run_after_its_wave_and_the_same_command_goes_on(
    folder: Path, requests: list[int], monkeypatch: pytest.MonkeyPatch
):
    finish = Selector.finish

    def interrupted(self: Selector, found: Any) -> Any:
        os.kill(os.getpid(), signal.SIGTERM)
        return finish(self, found)

    recipe = write_recipe(folder, "stopped")
    with monkeypatch.context() as patch:
        patch.setattr(Selector, "finish", interrupted)
        run = go(recipe)
    assert len(requests) == 4 * 24 and not (run / "dataset").exists()
    assert [line["step"] for line in read_jsonl(run / "metrics.jsonl")] == [1]
    go(recipe)
    assert len(requests) == len(set(requests)) == 12 * 24 and (run / "dataset").is_dir()
    assert [line["step"] for line in read_jsonl(run / "metrics.jsonl")] == [1, 2, 3]

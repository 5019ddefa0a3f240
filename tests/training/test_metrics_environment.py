"""environment.json says what ran, and holds no secret."""

import json
import subprocess
from importlib import metadata
from pathlib import Path

import pytest

from r1mega.config import UserError
from r1mega.training.environment import describe_environment, write_environment


def test_it_names_versions_machine_and_command(tmp_path):
    command = ["r1mega", "run", "a.toml", "train.lr=3e-6"]
    write_environment(tmp_path, describe_environment(command, 2, ["cpu"]))
    written = json.loads((tmp_path / "environment.json").read_text())
    assert written["command"] == command
    assert written["packages"]["torch"] == metadata.version("torch")
    assert (written["world_size"], written["devices"]) == (2, ["cpu"])
    assert written["cores"] >= 1
    root = Path(__file__).parents[2]
    head = subprocess.run(["git", "-C", root, "rev-parse", "HEAD"], capture_output=True, text=True).stdout
    assert (written["git_commit"] or "").removesuffix("+changes") == head.strip()


def test_secrets_of_the_command_and_of_the_process_environment_stay_out(tmp_path, monkeypatch):
    monkeypatch.setenv("WANDB_API_KEY", "canary-one")
    command = ["r1mega", "--hf-token=canary-two", "rollout.max_new_tokens=64", "api_key=canary-three"]
    write_environment(tmp_path, describe_environment(command, 1, ["cpu"]))
    text = (tmp_path / "environment.json").read_text()
    assert "canary" not in text
    assert "rollout.max_new_tokens=64" in text


def test_a_resume_is_added_and_the_first_start_kept(tmp_path):
    for world_size in (2, 4, 8):
        write_environment(tmp_path, describe_environment(["r1mega"], world_size, ["cpu"]))
    written = json.loads((tmp_path / "environment.json").read_text())
    assert written["world_size"] == 2
    assert [entry["world_size"] for entry in written["resumed"]] == [4, 8]


def test_a_damaged_file_is_named(tmp_path):
    (tmp_path / "environment.json").write_text("{")
    with pytest.raises(UserError, match=r"environment\.json: not a JSON object"):
        write_environment(tmp_path, {"started": "now"})

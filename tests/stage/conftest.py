"""Runs that are planned but not run."""

import shutil
from pathlib import Path

import pytest

import r1mega.stage.run as run_module
from r1mega.config import load_recipe
from r1mega.training.checkpoint.files import hash_file
from r1mega.training.checkpoint.manifest import write_manifest


@pytest.fixture
def launched(monkeypatch: pytest.MonkeyPatch) -> list[dict]:
    """The runs that would have been started, each of which leaves a checkpoint of its last step."""
    launched: list[dict] = []

    def launch(function: str, arguments: dict, layout: object) -> None:
        launched.append({**arguments, "name": Path(arguments["run_dir"]).name})
        leave_checkpoint(Path(arguments["run_dir"]))

    monkeypatch.setattr(run_module, "launch", launch)
    return launched


def leave_checkpoint(run_dir: Path) -> None:
    steps = load_recipe(run_dir / "recipe.toml").train.steps
    folder = run_dir / "checkpoints" / f"step-{steps:08d}"
    shutil.copytree(run_dir / "tokenizer", folder / "tokenizer", dirs_exist_ok=True)
    (folder / "weights").mkdir(exist_ok=True)
    (folder / "weights" / "numbers").write_bytes(b"1234")
    files = {str(path.relative_to(folder)): hash_file(path) for path in folder.rglob("*")
             if path.is_file() and path.name != "manifest.json"}
    (folder / "manifest.json").unlink(missing_ok=True)
    write_manifest(folder, folder.name, files)

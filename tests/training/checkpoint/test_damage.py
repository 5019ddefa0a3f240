"""Files that are not what they were, and files made to harm: found before use, and nothing of them ever
runs."""

import io
import json
import logging
import os
import pickle
import random
import re
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from r1mega.config import UserError
from r1mega.training.checkpoint import CheckpointStore
from r1mega.training.checkpoint.files import hash_file
from r1mega.training.checkpoint.manifest import write_manifest
from tests.ranks import run_ranks
from tests.training.checkpoint.runs import SMALL, Run

FILES = [
    "manifest.json",
    "model.json",
    "state.json",
    "rng/rank-00000.safetensors",
    "tokenizer/tokenizer.json",
] + [
    f"{part}/{name}"
    for part in ("weights", "optimizer", "reference")
    for name in ("__0_0.distcp", "index.json", ".metadata", "metadata.json")
]
READ = [
    file for file in FILES if not file.endswith(("metadata.json", ".metadata")) and "tokenizer" not in file
]


class Trap:
    """Unpickled, it makes the file `where`."""

    def __init__(self, where: Path):
        self.where = where

    def __reduce__(self):
        return os.system, (f"touch '{self.where}'",)


def two_checkpoints(root: Path) -> tuple[Run, CheckpointStore]:
    run = Run({}, model=SMALL)
    (root / "tok").mkdir(parents=True)
    (root / "tok/tokenizer.json").write_text('{"version": "1.0"}')
    store = CheckpointStore(root / "run", 2, False, run.groups)
    for step in (1, 2):
        run.train(1)
        store.save(step, run.snapshot(root / "tok", seen=step))
    found = sorted(
        str(path.relative_to(root / "run/step-00000002"))
        for path in (root / "run/step-00000002").rglob("*")
        if path.is_file()
    )
    assert found == sorted(FILES)
    return run, store


def flip(path: Path, other: Path) -> None:
    content = bytearray(path.read_bytes())
    at = random.Random(str(path.name)).randrange(len(content) * 8)
    content[at // 8] ^= 1 << at % 8
    path.write_bytes(content)


def truncate(path: Path, other: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])


def swap(path: Path, other: Path) -> None:
    """With the same file of the other checkpoint where they differ, else with another file of its own."""
    differs = other.read_bytes() != path.read_bytes()
    step = next(parent for parent in path.parents if parent.name.startswith("step-"))
    path.write_bytes((other if differs else step / "state.json").read_bytes())


DAMAGES: dict[str, Callable[[Path, Path], None]] = {
    "one bit flipped": flip,
    "one byte short": truncate,
    "emptied": lambda path, other: path.write_bytes(b""),
    "removed": lambda path, other: path.unlink(),
    "swapped": swap,
}


class Lines(logging.Handler):
    def __init__(self):
        super().__init__()
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(record.getMessage())


def damage_everything(root: Path) -> dict[tuple[str, str], tuple[int | None, list[str]]]:
    """(file, damage) -> the checkpoint chosen, the lines logged."""
    run, store = two_checkpoints(root)
    log, results = logging.getLogger("r1mega.checkpoint"), {}
    for file in FILES:
        path, other = root / "run/step-00000002" / file, root / "run/step-00000001" / file
        good = path.read_bytes()
        for name, damage in DAMAGES.items():
            damage(path, other)
            seen = Lines()
            log.addHandler(seen)
            results[file, name] = store.latest(), seen.lines
            log.removeHandler(seen)
            path.write_bytes(good)
    fresh = CheckpointStore(root / "run", 2, False, run.groups)
    assert fresh.latest() == 2 and fresh.load(2, run.target()) == {"update": 2, "seen": 2}
    shutil.move(root / "run/step-00000002", root / "spare")
    shutil.copytree(root / "run/step-00000001", root / "run/step-00000002")
    results["the whole folder", "swapped"] = store.latest(), []
    return results


@pytest.fixture(scope="module")
def damaged(tmp_path_factory):
    return run_ranks(damage_everything, 1, tmp_path_factory.mktemp("damage"), timeout=600)[0]


@pytest.mark.parametrize("file", FILES)
@pytest.mark.parametrize("name", DAMAGES)
def test_a_damaged_file_is_named_with_its_checksum_and_the_checkpoint_before_is_taken(damaged, file, name):
    step, lines = damaged[file, name]
    assert step == 1
    assert len(lines) == 1 and "\n" not in lines[0]
    assert f"step-00000002/{file}" in lines[0]
    if file != "manifest.json":
        hashes = re.findall(r"[0-9a-f]{64}", lines[0])
        assert len(set(hashes)) == (1 if name == "removed" else 2)


def test_a_checkpoint_under_another_ones_name_is_not_taken(damaged):
    assert damaged["the whole folder", "swapped"][0] == 1


def spring_traps(root: Path) -> dict[str, str]:
    """place -> what loading said ("" if it went through). Asserts that no trap went off."""
    run, store = two_checkpoints(root)
    folder, sprung = root / "run/step-00000002", root / "sprung"
    pickle.loads(pickle.dumps(Trap(sprung)))
    assert sprung.exists(), "the trap works"
    sprung.unlink()
    results = {}
    for place, content in _traps(folder, sprung).items():
        path = folder / place.split(":")[0]
        good = path.read_bytes() if path.exists() else None
        path.write_bytes(content)
        _reseal(folder)
        results[place] = _load(run, root)
        assert not sprung.exists(), place
        path.unlink() if good is None else path.write_bytes(good)
    _reseal(folder)
    assert _load(run, root) == ""
    return results


def _traps(folder: Path, sprung: Path) -> dict[str, bytes]:
    bare = pickle.dumps(Trap(sprung))
    saved = io.BytesIO()
    torch.save(Trap(sprung), saved)
    traps = {place: bare for place in READ if place != "manifest.json"}
    traps |= {f"{place}:saved": saved.getvalue() for place in traps}
    for part in ("weights", "optimizer", "reference"):
        traps[f"{part}/.metadata"] = traps[f"{part}/metadata.json"] = bare
        traps[f"{part}/common.pt"] = saved.getvalue()
        traps[f"{part}/__0_0.distcp:in place"] = _trap_in_place(folder / part, bare)
    return traps


def _trap_in_place(part: Path, trap: bytes) -> bytes:
    """The part's file, with every tensor's pickle exchanged for the trap and all else as it was."""
    chunks = [
        chunk
        for tensor in json.loads((part / "index.json").read_bytes()).values()
        for chunk in tensor["chunks"]
    ]
    content = bytearray((part / "__0_0.distcp").read_bytes())
    for _, _, _, start, length in chunks:
        archive = zipfile.ZipFile(io.BytesIO(content[start : start + length]))
        name = next(name for name in archive.namelist() if name.endswith("data.pkl"))
        at = content.index(archive.read(name), start)
        size = archive.getinfo(name).file_size
        assert len(trap) <= size
        content[at : at + size] = trap + b"." * (size - len(trap))
    return bytes(content)


def _reseal(folder: Path) -> None:
    """A manifest that says all is well."""
    (folder / "manifest.json").unlink()
    records = {str(path.relative_to(folder)): hash_file(path) for path in folder.rglob("*") if path.is_file()}
    write_manifest(folder, folder.name, records)


def _load(run: Run, root: Path) -> str:
    store = CheckpointStore(root / "run", 2, False, run.groups)
    try:
        assert store.latest() == 2
        store.load(2, run.target())
    except UserError as error:
        return str(error)
    return ""


@pytest.fixture(scope="module")
def trapped(tmp_path_factory):
    return run_ranks(spring_traps, 1, tmp_path_factory.mktemp("traps"), timeout=600)[0]


def test_no_trap_runs_and_a_file_that_is_read_gives_one_line_that_names_it(trapped):
    assert len(trapped) == 2 * (len(READ) - 1) + 4 * 3
    for place, said in trapped.items():
        file = place.split(":")[0]
        if file in READ and not place.endswith("in place"):
            assert file in said and "\n" not in said, (place, said)
        else:
            assert said == "", (place, said)  # never opened, or its pickle never looked at


def fuzz(root: Path, rounds: int) -> int:
    """Random damage under a manifest that vouches for it: a UserError or a load, nothing else."""
    run, _ = two_checkpoints(root)
    folder, rng, refused = root / "run/step-00000002", random.Random(0), 0
    small = [file for file in READ if file.endswith("json") and file != "manifest.json"] + [
        "rng/rank-00000.safetensors"
    ]
    for _ in range(rounds):
        path = folder / rng.choice(small)
        good = path.read_bytes()
        content = bytearray(good)
        for _ in range(rng.randint(1, 3)):
            at = rng.randrange(min(len(content), 400) if rng.random() < 0.5 else len(content))
            content[at : at + rng.randint(0, 2)] = rng.choice(
                [b"", b"-", b"9", b"[", b"null,", bytes([rng.randrange(256)])]
            )
        path.write_bytes(content)
        _reseal(folder)
        said = _load(run, root)
        assert "\n" not in said
        refused += said != ""
        path.write_bytes(good)
    return refused


def test_garbled_files_under_a_fitting_manifest_are_refused_in_one_line(tmp_path):
    assert run_ranks(fuzz, 1, tmp_path, 60, timeout=600)[0] > 40

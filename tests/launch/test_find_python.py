"""Which Python launch/setup takes, on machines made of folders with small scripts for Pythons."""

import os
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def fake_python(path: Path, version: int, whole: int = 1) -> Path:
    """An executable that answers what find_python asks: version, whether it can make environments, where it is."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f'#!/bin/sh\necho "{version} {whole} {path}"\n')
    path.chmod(0o755)
    return path


def find(machine: Path, **environ: str) -> subprocess.CompletedProcess:
    path = f"{machine / 'bin'}:{machine / 'tools'}"
    (machine / "tools").mkdir(exist_ok=True)
    for tool in ("bash", "env"):
        link = machine / "tools" / tool
        if not link.exists():
            link.symlink_to(f"/usr/bin/{tool}" if os.path.exists(f"/usr/bin/{tool}") else f"/bin/{tool}")
    words = [str(machine / "tools/bash"), str(ROOT / "launch/find_python")]
    return subprocess.run(words, capture_output=True, text=True,
                          env={"PATH": path, "HOME": str(machine / "home"), **environ})


@pytest.fixture
def machine(tmp_path: Path) -> Path:
    folder = tmp_path / "a machine"
    (folder / "bin").mkdir(parents=True)
    return folder


@pytest.mark.parametrize("place", [
    "bin/python3.12", "bin/python3", "home/.pyenv/versions/3.12.4/bin/python3",
    "home/.local/share/uv/python/cpython-3.12.4-linux/bin/python3", "home/.asdf/installs/python/3.12.4/bin/python3",
    "home/.local/share/mise/installs/python/3.12.4/bin/python3",
])
def test_finds_a_python_in_each_place(place: str, machine: Path) -> None:
    python = fake_python(machine / place, 312)
    assert find(machine).stdout.strip() == str(python)


def test_looks_behind_a_shim_that_stands_for_an_older_version(machine: Path) -> None:
    fake_python(machine / "bin/python3", 311)
    broken = fake_python(machine / "bin/python3.12", 312)
    broken.write_text("#!/bin/sh\necho 'pyenv: python3.12: command not found' >&2\nexit 127\n")
    python = fake_python(machine / "root/versions/3.13.0/bin/python3", 313)
    assert find(machine, PYENV_ROOT=str(machine / "root")).stdout.strip() == str(python)


def test_prefers_the_tested_version_then_the_oldest_newer_one(machine: Path) -> None:
    fake_python(machine / "bin/python3", 314)
    newer = fake_python(machine / "home/.pyenv/versions/3.13.1/bin/python3", 313)
    assert find(machine).stdout.strip() == str(newer)
    tested = fake_python(machine / "home/.pyenv/versions/3.12.1/bin/python3", 312)
    assert find(machine).stdout.strip() == str(tested)


def test_one_without_venv_is_passed_over_and_named_if_it_is_the_only_one(machine: Path) -> None:
    bare = fake_python(machine / "bin/python3.12", 312, whole=0)
    done = find(machine)
    if done.returncode:  # this machine has no other of its own in /usr
        assert str(bare) in done.stderr and "python3-venv" in done.stderr and len(done.stderr.splitlines()) == 1
    whole = fake_python(machine / "bin/python3.13", 313)
    assert find(machine).stdout.strip() == str(whole)


@pytest.mark.skipif(any(Path(f"/{place}/bin/python3.{minor}").exists() for place in ("usr", "usr/local")
                        for minor in range(12, 20)), reason="this machine has a new Python in /usr, which is found")
def test_one_line_says_what_is_missing(machine: Path) -> None:
    fake_python(machine / "bin/python3", 309)
    done = find(machine)
    assert done.returncode == 1 and done.stdout == ""
    assert len(done.stderr.splitlines()) == 1
    assert "3.12 or newer" in done.stderr and "only Python 3." in done.stderr

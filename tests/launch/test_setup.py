"""launch/setup and its callers, in a copy of the folder whose "Python" notes what is asked of it."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FAKE = """\
#!/bin/sh
echo "$(basename "$0") $*" | head -1 >> "{log}"
case "$*" in
  *ensurepip*) echo "312 1 $0" ;;
  *hashlib*|*version_info*) exec "{real}" "$@" ;;
  *"-m venv"*) for last; do :; done; mkdir -p "$last/bin"; cp "$0" "$last/bin/python" ;;
  *"-m pip --version"*) exit $(cat "{log}.nopip" 2>/dev/null || echo 0) ;;
  *"-m pip"*) exit $(cat "{log}.pip" 2>/dev/null || echo 0) ;;
  *"-m pytest"*) echo "GPUs: ${{CUDA_VISIBLE_DEVICES-all}}" >> "{log}" ;;
esac
"""


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    folder = tmp_path / "a clone"
    shutil.copytree(ROOT / "launch", folder / "launch")
    for name in ("pyproject.toml", "constraints.txt"):
        shutil.copy(ROOT / name, folder)
    python = tmp_path / "python"
    python.write_text(FAKE.format(log=tmp_path / "log", real=sys.executable))
    python.chmod(0o755)
    return folder


def launch(clone: Path, name: str, *words: str) -> subprocess.CompletedProcess:
    return subprocess.run([str(clone / "launch" / name), *words], capture_output=True, text=True, cwd="/", timeout=300,
                          env={"PATH": "/usr/bin:/bin", "HOME": "/nonexistent", "PYTHON": str(clone.parent / "python")})


def installs(clone: Path) -> int:
    log = clone.parent / "log"
    return log.read_text().count("-m pip install") if log.exists() else 0


def test_installs_once_with_the_constraints_and_then_no_more(clone: Path) -> None:
    first = launch(clone, "setup")
    assert first.returncode == 0, first.stderr
    assert "-c constraints.txt -e .[test]" in (clone.parent / "log").read_text()
    again = launch(clone, "setup")
    assert (again.returncode, again.stderr, installs(clone)) == (0, "", 1)


@pytest.mark.parametrize("name", ["pyproject.toml", "constraints.txt"])
def test_installs_again_when_what_it_was_made_from_changes(name: str, clone: Path) -> None:
    launch(clone, "setup")
    with (clone / name).open("a") as file:
        file.write("# changed\n")
    assert launch(clone, "setup").returncode == 0
    assert installs(clone) == 2


def test_a_failed_install_is_said_and_taken_up_again(clone: Path) -> None:
    (clone.parent / "log.pip").write_text("1")
    failed = launch(clone, "setup")
    assert failed.returncode == 1 and "run the same command again" in failed.stderr
    (clone.parent / "log.pip").write_text("0")
    assert launch(clone, "setup").returncode == 0
    assert installs(clone) == 2


def test_a_broken_environment_is_made_anew(clone: Path) -> None:
    launch(clone, "setup")
    (clone / ".venv/bin/python").unlink()
    assert launch(clone, "setup").returncode == 0
    assert (clone / ".venv/bin/python").exists()
    assert installs(clone) == 2


def test_an_environment_without_pip_is_made_anew(clone: Path) -> None:
    launch(clone, "setup")
    (clone / ".venv/r1mega-stamp").unlink()
    (clone.parent / "log.nopip").write_text("1")
    launch(clone, "setup")
    assert (clone.parent / "log").read_text().count("-m venv --clear") == 2


def test_another_system_than_linux_is_refused_in_one_line(clone: Path, tmp_path: Path) -> None:
    uname = tmp_path / "bin/uname"
    uname.parent.mkdir()
    uname.write_text("#!/bin/sh\necho Darwin\n")
    uname.chmod(0o755)
    done = subprocess.run([str(clone / "launch/setup")], capture_output=True, text=True,
                          env={"PATH": f"{uname.parent}:/usr/bin:/bin"})
    assert done.returncode == 1 and len(done.stderr.splitlines()) == 1
    assert "needs Linux" in done.stderr and "Darwin" in done.stderr


@pytest.mark.parametrize(("words", "seen"), [(["-k", "x"], ""), (["-m", "gpu"], "all"), (["-m", "gpu and x"], "all")])
def test_gpus_are_hidden_unless_tests_for_them_are_asked_for(clone: Path, words: list[str], seen: str) -> None:
    assert launch(clone, "test", *words).returncode == 0
    assert f"GPUs: {seen}\n" in (clone.parent / "log").read_text()


def test_a_moved_clone_installs_again(clone: Path) -> None:
    """An editable install and the scripts of an environment hold absolute paths."""
    launch(clone, "setup")
    moved = clone.rename(clone.parent / "elsewhere")
    assert launch(moved, "setup").returncode == 0
    assert installs(moved) == 2


def test_demo_and_test_set_up_and_pass_their_arguments_on(clone: Path) -> None:
    assert launch(clone, "demo", "seed=1", "name=a b").returncode == 0
    assert launch(clone, "test", "-k", "typo").returncode == 0
    lines = (clone.parent / "log").read_text().splitlines()
    assert "python -m r1mega.cli.main run configs/tiny/zero.toml seed=1 name=a b" in lines
    assert any(line.startswith("python -m pytest -n 2") and line.endswith("-k typo") for line in lines)
    assert installs(clone) == 1


@pytest.mark.skipif(shutil.which("shellcheck") is None, reason="shellcheck is not installed")
def test_scripts_are_clean() -> None:
    scripts = [path for path in [*(ROOT / "launch").iterdir(), ROOT / ".ci/run"]
               if path.is_file() and path.read_text().startswith("#!")]
    done = subprocess.run(["shellcheck", *map(str, scripts)], capture_output=True, text=True)
    assert len(scripts) >= 5
    assert done.returncode == 0, done.stdout

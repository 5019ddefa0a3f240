"""What a stopped evaluation leaves behind, whatever it was doing when it stopped."""

from pathlib import Path

import pytest

from r1mega.config import UserError
from r1mega.stage.suite_partial import Partial

STAMP = {"format": "1", "samples": 4}


def record(name: str) -> dict[str, object]:
    return {"id": name, "text": "ü\u2028\n"}  # what some think ends a line


def write(path: Path, *names: str) -> None:
    with Partial(path, STAMP) as partial:
        partial.add([record(name) for name in names])


def test_a_kill_at_any_byte_costs_the_line_it_was_in_and_nothing_else(tmp_path: Path):
    path = tmp_path / "p.jsonl"
    write(path, "a", "b")
    whole = path.read_bytes()
    for length in range(len(whole) + 1):
        path.write_bytes(whole[:length])
        with Partial(path, STAMP) as partial:
            kept = max(0, whole[:length].count(b"\n") - 1)
            assert list(partial.done) == ["a", "b"][:kept]
            partial.add([record("c")])
        with Partial(path, STAMP) as again:
            assert list(again.done) == [*["a", "b"][:kept], "c"] and again.done["c"] == record("c")


def test_a_long_torn_line_leaves_nothing_behind_a_shorter_one(tmp_path: Path):
    path = tmp_path / "p.jsonl"
    write(path, "a")
    path.write_bytes(path.read_bytes() + b'{"id": "b", "text": "' + b"x" * 10_000)
    write(path, "c")
    with Partial(path, STAMP) as partial:
        assert list(partial.done) == ["a", "c"]
    assert b"xx" not in path.read_bytes()


def test_another_evaluations_file_is_refused_and_kept(tmp_path: Path):
    path = tmp_path / "p.jsonl"
    write(path, "a")
    before = path.read_bytes()
    with pytest.raises(UserError, match=r"was begun with another samples \(4, now 8\)"):
        Partial(path, STAMP | {"samples": 8})
    assert path.read_bytes() == before

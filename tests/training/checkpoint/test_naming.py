"""Moves between folder names, cut off anywhere."""

from pathlib import Path

from r1mega.training.checkpoint import naming


def make(root: Path, name: str, content: str = "") -> Path:
    (root / name).mkdir(parents=True)
    (root / name / "file").write_text(content)
    return root / name


def names(root: Path) -> list[str]:
    return sorted(path.name for path in root.iterdir())


def test_only_whole_names_are_steps_and_the_newest_comes_first(tmp_path):
    for name in (
        "step-00000002",
        "step-00000010",
        "step-123456789",
        ".writing-step-00000099",
        "step-5",
        "step-0000000x",
        ".replaced-step-00000098",
        "step-00000007.bak",
    ):
        make(tmp_path, name)
    (tmp_path / "step-00000055").write_text("a file, not a folder")
    assert naming.list_steps(tmp_path) == [123456789, 10, 2]


def test_a_replaced_checkpoint_comes_back_if_its_successor_never_got_the_name(tmp_path):
    make(tmp_path, ".replaced-step-00000004", "old")
    make(tmp_path, ".writing-step-00000004", "new")
    naming.recover(tmp_path)
    assert names(tmp_path) == ["step-00000004"]
    assert (tmp_path / "step-00000004/file").read_text() == "old"


def test_a_replaced_checkpoint_goes_if_its_successor_has_the_name(tmp_path):
    make(tmp_path, ".replaced-step-00000004", "old")
    make(tmp_path, "step-00000004", "new")
    naming.recover(tmp_path)
    assert names(tmp_path) == ["step-00000004"]
    assert (tmp_path / "step-00000004/file").read_text() == "new"


def test_the_newest_ones_stay_and_damaged_ones_do_not_count(tmp_path):
    for step in (1, 2, 3, 4, 5):
        make(tmp_path, naming.step_name(step))
    naming.prune(tmp_path, 2, damaged={4})
    assert naming.list_steps(tmp_path) == [5, 4, 3]
    naming.prune(tmp_path, 1, damaged={5})
    assert naming.list_steps(tmp_path) == [5, 4]
    naming.prune(tmp_path, 1, damaged={4, 5})
    assert naming.list_steps(tmp_path) == [5, 4]
    naming.prune(tmp_path, 1, damaged=set())
    assert naming.list_steps(tmp_path) == [5]


def test_a_half_written_one_is_never_pruned_nor_counted(tmp_path):
    make(tmp_path, naming.step_name(1))
    writing = naming.writing_folder(tmp_path / naming.step_name(2))
    make(tmp_path, writing.name)
    naming.prune(tmp_path, 1, damaged=set())
    assert names(tmp_path) == [".writing-step-00000002", "step-00000001"]

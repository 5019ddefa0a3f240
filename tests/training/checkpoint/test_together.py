"""What goes wrong on one rank while loading is an error on all: nobody waits for a rank that has gone."""

from pathlib import Path

import pytest

from r1mega.config import LayoutConfig, ModelConfig, UserError
from tests.model.test_router import TINY
from tests.ranks import run_ranks


def load_where_rank_1_fails(root: Path, error: Exception) -> list[str]:
    """What each rank hears, from a checkpoint and from a model folder."""
    from r1mega.parallel import start
    from r1mega.training.checkpoint import CheckpointStore, LoadTarget, load_model_folder, model_folder

    groups = start(LayoutConfig(data_parallel=2))

    def fail(*_: object) -> dict:
        if groups.rank == 1:
            raise error
        return {"state": {}}

    store = CheckpointStore(root, 1, False, groups)
    store._verified.add(1)
    store._fill = fail
    model_folder.verify_folder, model_folder.load_weights = (lambda folder: None), fail
    said = []
    for load in (lambda: store.load(1, LoadTarget([], ModelConfig(**TINY))),
                 lambda: load_model_folder(root / "model", [], groups)):
        with pytest.raises(UserError) as refused:
            load()
        said.append(str(refused.value))
    return said


@pytest.mark.parametrize(("error", "words"), [
    (UserError("w.distcp: cut off"), "w.distcp: cut off"),
    (MemoryError("of which\nthere is none"), "MemoryError: of which there is none (rank 1)"),
])
def test_any_exception_on_one_rank_is_one_line_on_all(tmp_path: Path, error: Exception, words: str):
    by_rank = run_ranks(load_where_rank_1_fails, 2, tmp_path, error, timeout=60)
    assert by_rank[0] == by_rank[1]
    for said in by_rank[0]:
        assert said.endswith(words) and "\n" not in said

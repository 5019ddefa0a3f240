"""`import` and `export`: the same bits there and back, the same model as a built one, and little memory."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from r1mega.config import LayoutConfig, UserError
from r1mega.model.hf import FolderWriter, hf_config, plan_tensors
from r1mega.model.names import NameTable
from r1mega.stage.convert import export_hf, import_hf
from r1mega.training.checkpoint.files import dump_json, hash_file
from r1mega.training.checkpoint.manifest import write_manifest
from tests.model.test_counts import SMALL
from tests.model.test_hf_folder import random_tensors
from tests.ranks import run_ranks


@pytest.fixture
def hf_dir(tmp_path: Path) -> Path:
    """Weights in bf16, some norms in fp32, in several files, with a tokenizer's files."""
    folder = tmp_path / "hf"
    folder.mkdir()
    writer = FolderWriter(folder, plan_tensors(NameTable(SMALL), torch.bfloat16), max_file_bytes=100_000)
    for name, tensor in random_tensors(torch.bfloat16).items():
        writer.write(name, tensor)
    writer.finish()
    for file in folder.glob("*.safetensors"):
        tensors = load_file(file)
        save_file({name: tensor.float() if name.endswith("input_layernorm.weight") else tensor
                   for name, tensor in tensors.items()}, file)
    (folder / "config.json").write_text(json.dumps(hf_config(SMALL, "bfloat16")))
    (folder / "chat_template.jinja").write_text("{{ messages }}")
    return folder


def tensors_of(folder: Path) -> dict[str, torch.Tensor]:
    return {name: tensor for file in folder.glob("*.safetensors") for name, tensor in load_file(file).items()}


def assert_same(ours: dict[str, torch.Tensor], theirs: dict[str, torch.Tensor]) -> None:
    assert ours.keys() == theirs.keys()
    for name, tensor in theirs.items():
        assert ours[name].dtype == tensor.dtype, name
        assert torch.equal(ours[name], tensor), name


def test_import_then_export_gives_the_same_bits_and_small_files(hf_dir: Path, tmp_path: Path):
    import_hf(hf_dir, tmp_path / "model")
    export_hf(tmp_path / "model", tmp_path / "back", max_file_bytes=50_000)
    assert_same(tensors_of(tmp_path / "back"), tensors_of(hf_dir))
    ours, theirs = (json.loads((folder / "config.json").read_text()) for folder in (tmp_path / "back", hf_dir))
    assert ours == theirs | {"torch_dtype": "float32"}  # the widest
    assert (tmp_path / "back/chat_template.jinja").read_text() == "{{ messages }}"


def test_ranks_share_an_import_that_a_sharded_model_loads_and_saves_again(hf_dir: Path, tmp_path: Path):
    run_ranks(import_load_save, 2, str(hf_dir), str(tmp_path), timeout=300)
    assert len(list((tmp_path / "imported/weights").glob("*.distcp"))) == 2
    expected = {name: tensor.float() for name, tensor in tensors_of(hf_dir).items()}
    export_hf(tmp_path / "saved", tmp_path / "exported")
    assert_same(tensors_of(tmp_path / "exported"), expected)


def import_load_save(hf_dir: str, root: str) -> None:
    """Import on two ranks; load the result into a model cut in two; save it as a checkpoint."""
    from megatron.core import parallel_state

    from r1mega.model import build_policy
    from r1mega.parallel import start
    from r1mega.stage.convert import import_with
    from r1mega.training.checkpoint import load_model_folder, save_model_folder

    imported = Path(root) / "imported"
    import_with(start(LayoutConfig(data_parallel=2)), Path(hf_dir), imported, precision="fp32")
    parallel_state.destroy_model_parallel()
    groups = start(LayoutConfig(tensor_parallel=2, expert_parallel=2))
    chunks = build_policy(SMALL, groups, seed=3)
    load_model_folder(imported, chunks, groups)
    save_model_folder(Path(root) / "saved", chunks, SMALL, groups)


def test_mtp_can_be_left_out(hf_dir: Path, tmp_path: Path):
    import_hf(hf_dir, tmp_path / "model", mtp=False, precision="bf16")
    export_hf(tmp_path / "model", tmp_path / "back")
    expected = {name: tensor if name.endswith("bias") else tensor.bfloat16()
                for name, tensor in tensors_of(hf_dir).items() if not name.startswith("model.layers.3.")}
    assert_same(tensors_of(tmp_path / "back"), expected)
    assert json.loads((tmp_path / "back/config.json").read_text())["num_nextn_predict_layers"] == 0


def test_a_place_that_is_taken_is_refused_in_both_directions(hf_dir: Path, tmp_path: Path):
    with pytest.raises(UserError, match="exists and is not empty"):
        import_hf(hf_dir, hf_dir)
    import_hf(hf_dir, tmp_path / "model")
    with pytest.raises(UserError, match="exists and is not empty"):
        export_hf(tmp_path / "model", hf_dir)


def test_a_model_that_config_json_cannot_say_is_refused_before_anything_is_written(hf_dir: Path, tmp_path: Path):
    import_hf(hf_dir, tmp_path / "model")
    path = tmp_path / "model/model.json"
    path.write_bytes(dump_json(json.loads(path.read_text()) | {"norm_eps": 1e-5}))
    files = [file for file in (tmp_path / "model").rglob("*") if file.is_file() and file.name != "manifest.json"]
    (tmp_path / "model/manifest.json").unlink()
    write_manifest(tmp_path / "model", "model",
                   {file.relative_to(tmp_path / "model").as_posix(): hash_file(file) for file in files})
    with pytest.raises(UserError, match=r"model/model\.json: norm_eps=1e-05; only 1e-06"):
        export_hf(tmp_path / "model", tmp_path / "back")
    assert not list(tmp_path.glob("*back*"))


def test_a_damaged_source_leaves_nothing_behind(hf_dir: Path, tmp_path: Path):
    file = sorted(hf_dir.glob("*.safetensors"))[0]
    file.write_bytes(file.read_bytes()[:-1])
    with pytest.raises(UserError, match=f"{file.name}: damaged"):
        import_hf(hf_dir, tmp_path / "model")
    assert [path.name for path in tmp_path.iterdir()] == ["hf"]


def test_a_damaged_model_folder_is_found_before_anything_is_written(hf_dir: Path, tmp_path: Path):
    import_hf(hf_dir, tmp_path / "model")
    weights = next((tmp_path / "model/weights").glob("*.distcp"))
    content = bytearray(weights.read_bytes())
    content[len(content) // 2] ^= 1
    weights.write_bytes(content)
    with pytest.raises(UserError, match=weights.name):
        export_hf(tmp_path / "model", tmp_path / "back")
    assert not (tmp_path / "back").exists()

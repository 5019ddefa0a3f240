"""Safetensors folders: read by slice, checked before use, written in files of limited size."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from r1mega.config import UserError
from r1mega.model.hf.folder import HfFolder
from r1mega.model.hf.writer import FolderWriter, plan_tensors
from r1mega.model.names import NameTable
from tests.model.test_counts import SMALL

TABLE = NameTable(SMALL)
Q_B = "model.layers.1.self_attn.q_b_proj.weight"


def random_tensors(dtype: torch.dtype) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    plan = plan_tensors(TABLE, dtype)
    tensors = {name: torch.randn(shape, generator=generator).to(kind) for name, (kind, shape) in plan.items()}
    return tensors | {copy: tensors[original] for copy, original in TABLE.copies.items()}


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A complete folder of bf16 weights in several files."""
    folder = tmp_path_factory.mktemp("good")
    writer = FolderWriter(folder, plan_tensors(TABLE, torch.bfloat16), max_file_bytes=60_000)
    for name, tensor in random_tensors(torch.bfloat16).items():
        writer.write(name, tensor)
    writer.finish()
    return folder


@pytest.fixture
def folder(good: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(good, tmp_path / "hf"))


def rewrite(folder: Path, name: str, tensor: torch.Tensor | None, new_name: str | None = None) -> Path:
    """Replace, rename or (None) remove a tensor in the file that holds it, and in the index."""
    index_file = folder / "model.safetensors.index.json"
    index = json.loads(index_file.read_text())
    file = index["weight_map"].pop(name)
    tensors = load_file(folder / file)
    del tensors[name]
    if tensor is not None:
        tensors[new_name or name] = tensor
        index["weight_map"][new_name or name] = file
    save_file(tensors, folder / file)
    index_file.write_text(json.dumps(index))
    return folder / file


def refusal(folder: Path) -> str:
    with pytest.raises(UserError) as error:
        opened = HfFolder(folder)
        opened.check(TABLE)
        opened.check_copies(TABLE, rows_at_once=64)
    assert "\n" not in str(error.value)
    return str(error.value)


def test_what_is_written_is_what_safetensors_reads_in_files_within_the_limit(good: Path):
    files = sorted(good.glob("*.safetensors"))
    assert len(files) > 3
    assert all(file.name.endswith(f"-of-{len(files):05}.safetensors") for file in files)
    read = {name: tensor for file in files for name, tensor in load_file(file).items()}
    expected = random_tensors(torch.bfloat16)
    assert read.keys() == expected.keys()
    assert all(torch.equal(read[name], expected[name]) and read[name].dtype == expected[name].dtype for name in read)
    index = json.loads((good / "model.safetensors.index.json").read_text())
    assert index["metadata"]["total_size"] == sum(tensor.nbytes for tensor in expected.values())
    for file in files:
        data = sum(expected[name].nbytes for name, where in index["weight_map"].items() if where == file.name)
        assert data <= 60_000


def test_slices_are_those_of_the_whole(good: Path):
    whole, opened = random_tensors(torch.bfloat16)[Q_B], HfFolder(good)
    assert torch.equal(opened.read(Q_B), whole)
    assert torch.equal(opened.read(Q_B, 20, 40), whole[20:40])
    opened.check(TABLE)
    opened.check_copies(TABLE)


def test_a_tensor_never_written_is_noticed(tmp_path: Path):
    writer = FolderWriter(tmp_path, plan_tensors(TABLE, torch.float32), max_file_bytes=10**9)
    for name, tensor in list(random_tensors(torch.float32).items())[1:]:
        writer.write(name, tensor)
    with pytest.raises(ValueError, match="never written"):
        writer.finish()


def test_a_missing_tensor_is_named(folder: Path):
    rewrite(folder, Q_B, None)
    assert f"tensor {Q_B} is missing" in refusal(folder)


def test_a_tensor_of_another_shape_is_named_with_both_shapes(folder: Path):
    file = rewrite(folder, Q_B, torch.zeros(79, 32, dtype=torch.bfloat16))
    assert refusal(folder).startswith(f"{file}: tensor {Q_B} has shape [79, 32]; config.json makes it [80, 32]")


def test_a_tensor_of_integers_is_refused(folder: Path):
    rewrite(folder, Q_B, torch.zeros(80, 32, dtype=torch.int8))
    assert "is I8; legal: F32" in refusal(folder)


def test_an_unknown_tensor_is_refused(folder: Path):
    rewrite(folder, "lm_head.weight", torch.zeros(200, 64), "lm_head.bias")
    assert "lm_head.weight is missing" in refusal(folder)
    rewrite(folder, "lm_head.bias", torch.zeros(200, 64), "lm_head.weight")
    rewrite(folder, "model.layers.3.embed_tokens.weight", torch.zeros(1), "model.layers.3.strange")
    assert "unknown tensor model.layers.3.strange" in refusal(folder)


def test_a_copy_that_differs_from_the_trunk_is_refused(folder: Path):
    other = random_tensors(torch.bfloat16)["lm_head.weight"].clone()
    other[150, 3] += 1
    rewrite(folder, "model.layers.3.shared_head.head.weight", other)
    assert "model.layers.3.shared_head.head.weight differs from lm_head.weight" in refusal(folder)


def test_copies_may_be_left_out(folder: Path):
    for name in TABLE.copies:
        rewrite(folder, name, None)
    HfFolder(folder).check(TABLE)


def test_without_an_mtp_layer_in_the_files_the_fix_is_said(folder: Path):
    index = json.loads((folder / "model.safetensors.index.json").read_text())
    for name in index["weight_map"]:
        if name.startswith("model.layers.3."):
            rewrite(folder, name, None)
    assert "num_nextn_predict_layers=0" in refusal(folder)
    HfFolder(folder).check(NameTable(SMALL.model_copy(update={"num_mtp_layers": 0})))


def test_an_mtp_layer_that_is_not_wanted_is_passed_over(folder: Path):
    HfFolder(folder).check(NameTable(SMALL.model_copy(update={"num_mtp_layers": 0})))


def test_a_file_cut_off_is_named(folder: Path):
    file = sorted(folder.glob("*.safetensors"))[1]
    file.write_bytes(file.read_bytes()[:-10])
    assert refusal(folder).startswith(f"{file}: damaged or cut off")


def test_a_missing_file_is_named(folder: Path):
    file = sorted(folder.glob("*.safetensors"))[1]
    file.unlink()
    assert refusal(folder).startswith(f"{file}: no such file")


def test_an_index_that_lies_or_is_none_is_named(folder: Path):
    index_file = folder / "model.safetensors.index.json"
    index = json.loads(index_file.read_text())
    file = index["weight_map"][Q_B]
    index["weight_map"]["extra.weight"] = file
    index_file.write_text(json.dumps(index))
    assert refusal(folder).startswith(f"{folder / file}: tensor extra.weight is missing")
    index_file.write_text("[]")
    assert "not a safetensors index" in refusal(folder)
    index_file.unlink()
    assert "neither" in refusal(folder)


def test_fp8_is_multiplied_with_the_scale_of_its_block(tmp_path: Path):
    """300 x 200 in blocks of 128 x 128: a value's scale is that of block (row // 128, column // 128)."""
    generator = torch.Generator().manual_seed(1)
    quantised = torch.randn(300, 200, generator=generator).to(torch.float8_e4m3fn)
    scale = torch.rand(3, 2, generator=generator) + 0.5
    save_file({"x.weight": quantised, "x.weight_scale_inv": scale}, tmp_path / "model.safetensors")
    blocks = torch.kron(scale, torch.ones(128, 128))  # 384 x 256; the last blocks are cut
    expected = quantised.float() * blocks[:300, :200]
    opened = HfFolder(tmp_path)
    assert opened.torch_dtype("x.weight") == torch.bfloat16
    assert torch.equal(opened.read("x.weight"), expected)
    assert torch.equal(opened.read("x.weight", 100, 260), expected[100:260])


def test_fp8_without_its_scales_is_refused(folder: Path):
    rewrite(folder, Q_B, torch.zeros(80, 32).to(torch.float8_e4m3fn))
    assert f"{Q_B}_scale_inv is missing" in refusal(folder)

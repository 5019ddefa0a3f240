"""Model folders from and to Hugging Face's layout (DeepSeek-V3, Qwen2, Llama), a weight at a time and without building
the model.

Both directions need memory for the largest weight (DeepSeek-V3: the embedding, under 4 GB while it is copied), not for
the model. Importing spreads the weights over as many ranks as the layout has, whatever else the layout says.
"""

import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch

from r1mega.config import LayoutConfig, ModelConfig, UserError
from r1mega.model.hf import FolderWriter, HfFolder, TensorPlan, hf_config, interleaving, read_hf_config
from r1mega.model.names import NameTable
from r1mega.model.stored_names import Place, stored_place
from r1mega.model.weight import Weight
from r1mega.parallel import Groups, launch, start, stop
from r1mega.stage.tokenizer_files import token_ids, tokenizer_files
from r1mega.training.checkpoint import read_model_config, verify_folder
from r1mega.training.checkpoint.files import dump_json, sync_folders, write_file
from r1mega.training.checkpoint.index import StoredTensor, read_index
from r1mega.training.checkpoint.model_folder import MODEL, TOKENIZER, WEIGHTS, model_files
from r1mega.training.checkpoint.shards import HostShard, ShardReader
from r1mega.training.checkpoint.together import begin_write, finish_write, raise_together
from r1mega.training.checkpoint.write import BackgroundWrite, WriteJob

Precision = Literal["fp32", "bf16"]
DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}
MAX_FILE_BYTES = 5_000_000_000  # as large as published files are


def import_hf(
    hf_dir: Path, model_dir: Path, layout: LayoutConfig | None = None, *,
    precision: Precision | None = None, mtp: bool = True,
) -> None:
    """Make `model_dir` from a folder with config.json and safetensors files; tokenizer files come along.

    Each weight keeps the dtype of the files (FP8 becomes bf16) unless `precision` is given; selection biases are fp32.
    Without `mtp`, an MTP layer is left out; needed where config.json speaks of one that the files do not hold.
    `layout` only says how many ranks share the work. Raises UserError naming file, tensor or key.
    """
    arguments = {"hf_dir": str(hf_dir), "model_dir": str(model_dir), "precision": precision, "mtp": mtp,
                 "layout": (layout or LayoutConfig()).model_dump()}
    launch("r1mega.stage.convert:import_on_rank", arguments, layout or LayoutConfig())


def import_on_rank(
    hf_dir: str, model_dir: str, precision: Precision | None, mtp: bool, layout: dict[str, object]
) -> None:
    """One rank's share of `import_hf`."""
    groups = start(LayoutConfig(**layout))
    try:
        import_with(groups, Path(hf_dir), Path(model_dir), precision=precision, mtp=mtp)
    finally:
        stop()


def import_with(
    groups: Groups, hf_dir: Path, final: Path, *, precision: Precision | None = None, mtp: bool = True
) -> None:
    """`import_hf` by the ranks of `groups`. Collective."""
    there = final.exists() and (not final.is_dir() or any(final.iterdir()))
    raise_together(f"{final}: exists and is not empty; remove it or name another" if there else None)
    shards, error = None, None
    try:
        shards = _open_source(hf_dir, groups, precision, mtp)
    except UserError as problem:
        error = str(problem)
    raise_together(error)
    files = model_files(shards.table.model, None) | tokenizer_files(hf_dir) if groups.rank == 0 else {}
    begin_write(final, [WEIGHTS], groups)
    job = WriteJob(final, "model", groups.rank, groups.world_size, {WEIGHTS: shards}, files)
    finish_write(BackgroundWrite(job), groups)


def _open_source(hf_dir: Path, groups: Groups, precision: Precision | None, mtp: bool) -> "_Shards":
    source = read_hf_config(hf_dir)
    model = source.model if mtp else source.model.model_copy(update={"num_mtp_layers": 0})
    folder, table = HfFolder(hf_dir), NameTable(model)
    folder.check(table)
    if groups.rank == 0:
        folder.check_copies(table)
    return _Shards(folder, table, DTYPES.get(precision), source.rope_interleave, groups.rank, groups.world_size)


@dataclass(frozen=True)
class _Shards:
    """This rank's share of a checkpoint, read from the files when it is iterated over."""

    folder: HfFolder
    table: NameTable
    dtype: torch.dtype | None
    interleaved: bool
    rank: int
    world_size: int

    def __len__(self) -> int:
        return len(self.table.weights[self.rank::self.world_size])

    def __iter__(self) -> Iterator[HostShard]:
        places = {weight.megatron: stored_place(weight, self.table.model) for weight in self.table.weights}
        dtypes = self._dtypes(places)
        for weight in self.table.weights[self.rank::self.world_size]:
            place = places[weight.megatron]
            yield self._shard(weight, place, dtypes[place.key])

    def _dtypes(self, places: dict[str, Place]) -> dict[str, torch.dtype]:
        """One dtype for every global tensor: that of the files, or the widest where its parts differ."""
        dtypes: dict[str, torch.dtype] = {}
        for weight in self.table.weights:
            key = places[weight.megatron].key
            for name in weight.files:
                dtype = self.folder.torch_dtype(name) if self.dtype is None else self.dtype
                dtype = torch.float32 if weight.is_selection_bias else dtype
                dtypes[key] = torch.promote_types(dtypes.get(key, dtype), dtype)
        return dtypes

    def _shard(self, weight: Weight, place: Place, dtype: torch.dtype) -> HostShard:
        model = self.table.model
        rope_rows = None if self.interleaved or model.is_dense else interleaving(weight, model)
        first = next(iter(weight.files.values()))
        shape = (model.padded_vocab_size if weight.is_vocabulary else weight.file_rows, *first[1:])
        data = torch.zeros(shape, dtype=dtype)
        for name, place_of_part in weight.parts(data):
            part = self.folder.read(name)
            place_of_part.copy_((part if rope_rows is None else part[rope_rows]).view(place_of_part.shape))
        if place.expert is None:
            return HostShard(place.key, shape, (0,) * len(shape), data)
        offset = (place.expert, *(0,) * len(shape))
        return HostShard(place.key, (model.num_experts, *shape), offset, data[None])


def export_hf(
    model_dir: Path, hf_dir: Path, *, precision: Precision | None = None, max_file_bytes: int = MAX_FILE_BYTES
) -> None:
    """Write a model folder (or a checkpoint) as config.json, safetensors files with their index, and tokenizer files.

    Weights keep the dtype they are stored in unless `precision` is given; selection biases are fp32. The folder
    appears under its name when it is complete. Raises UserError naming file or tensor.
    """
    arguments = {"model_dir": str(model_dir), "hf_dir": str(hf_dir), "precision": precision,
                 "max_file_bytes": max_file_bytes}
    launch("r1mega.stage.convert:export_on_rank", arguments, LayoutConfig())


def export_on_rank(model_dir: str, hf_dir: str, precision: Precision | None, max_file_bytes: int) -> None:
    """`export_hf` in a world of one rank."""
    start(LayoutConfig())
    try:
        _export(Path(model_dir), Path(hf_dir), DTYPES.get(precision), max_file_bytes)
    finally:
        stop()


def _export(model_dir: Path, hf_dir: Path, dtype: torch.dtype | None, max_file_bytes: int) -> None:
    if hf_dir.exists() and (not hf_dir.is_dir() or any(hf_dir.iterdir())):
        raise UserError(f"{hf_dir}: exists and is not empty; remove it or name another")
    model = read_model_config(model_dir)
    verify_folder(model_dir)
    table = NameTable(model)
    index = read_index(model_dir / WEIGHTS)
    plan = _plan(table, index, dtype)
    config = _config(model_dir, model, plan)
    partial = hf_dir.with_name(f".{hf_dir.name}.partial")
    try:
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)
        _write_tensors(model_dir / WEIGHTS, index, table, FolderWriter(partial, plan, max_file_bytes))
        _write_small_files(model_dir, partial, config)
        sync_folders(partial)
        partial.rename(hf_dir)
    except OSError as problem:
        raise UserError(f"{problem.filename or hf_dir}: {problem.strerror or problem}") from None
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _plan(table: NameTable, index: dict[str, StoredTensor], dtype: torch.dtype | None) -> TensorPlan:
    plan: dict[str, tuple[torch.dtype, tuple[int, ...]]] = {}
    for weight in table.weights:
        key = stored_place(weight, table.model).key
        if key not in index:
            raise UserError(f"{WEIGHTS}/index.json: has no tensor {key}, though model.json describes a model with it")
        kept = torch.float32 if weight.is_selection_bias else dtype or index[key].torch_dtype
        plan |= {name: (kept, shape) for name, shape in weight.files.items()}
    return plan | {copy: plan[original] for copy, original in table.written_copies.items()}


def _write_tensors(
    weights: Path, index: dict[str, StoredTensor], table: NameTable, writer: FolderWriter
) -> None:
    reader = ShardReader(weights)
    copy_of = {original: copy for copy, original in table.written_copies.items()}
    for weight in table.weights:
        data = _read(reader, index, stored_place(weight, table.model))
        for name, part in weight.parts(data):  # what padding follows is left behind
            tensor = part.reshape(weight.files[name])
            writer.write(name, tensor)
            if name in copy_of:
                writer.write(copy_of[name], tensor)
    writer.finish()


def _read(reader: ShardReader, index: dict[str, StoredTensor], place: Place) -> torch.Tensor:
    """One weight, put together from whatever shards it was stored in."""
    from megatron.core.dist_checkpointing.mapping import ShardedTensor

    stored = index[place.key]
    leading = 0 if place.expert is None else 1
    local = stored.shape[leading:]
    offset = ((place.expert,) if leading else ()) + (0,) * len(local)
    data = torch.empty(local, dtype=stored.torch_dtype)
    wanted = ShardedTensor(place.key, data, data.dtype, local, stored.shape, offset, None, prepend_axis_num=leading)
    reader.read({"weight": wanted})
    return data


def _config(model_dir: Path, model: ModelConfig, plan: TensorPlan) -> dict[str, Any]:
    """What goes into config.json, without the tokenizer's part."""
    dtypes = {dtype for name, (dtype, _) in plan.items() if not name.endswith("e_score_correction_bias")}
    try:
        return hf_config(model, "bfloat16" if dtypes == {torch.bfloat16} else "float32")
    except UserError as problem:
        raise UserError(f"{model_dir / MODEL}: {problem}") from None


def _write_small_files(model_dir: Path, folder: Path, config: dict[str, Any]) -> None:
    tokenizer = model_dir / TOKENIZER
    write_file(folder / "config.json", dump_json(config | token_ids(tokenizer)))
    if tokenizer.is_dir():
        for path in sorted(tokenizer.iterdir()):
            shutil.copyfile(path, folder / path.name)

"""`r1mega score`: log-probs of given token sequences, under any layout."""

import json
import math
import os
from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from itertools import islice
from pathlib import Path

import torch.distributed as dist

from r1mega.config import LayoutConfig, ModelConfig, UserError
from r1mega.config.head import HeadConfig
from r1mega.model import PolicySettings, build_policy
from r1mega.parallel import Groups, launch, start, stop
from r1mega.record import TrainSample
from r1mega.stage.model_path import find_model
from r1mega.stage.packs import replica_packs
from r1mega.training.checkpoint import load_model_folder, read_model_config
from r1mega.training.learner import score_packs

LINES_AT_A_TIME = 1024


def score(
    model: Path, input_file: Path, output_file: Path, layout: LayoutConfig, *, temperature: float = 1.0,
    pack_tokens: int = 8192, precision: str = "fp32", implementation: str = "reference",
) -> None:
    """Read {"token_ids": [...]} a line, write {"log_probs": [null, ...]} a line, in the same order.

    Entry t of log_probs is log p(token t | tokens before it), fp32; the first token has none. All lines are checked
    before anything is computed, and the output appears whole or not at all. Raises UserError naming file and line.
    """
    if not (math.isfinite(temperature) and temperature > 0):
        raise UserError(f"command line: --temperature={temperature:g}: must be a number above 0")
    _check_output(output_file)
    folder = find_model(model)
    config = read_model_config(folder)
    for _ in read_sequences(input_file, config):
        pass
    launch("r1mega.stage.score:score_on_rank", {
        "model": str(folder), "input_file": str(input_file), "output_file": str(output_file),
        "layout": layout.model_dump(), "temperature": temperature, "pack_tokens": pack_tokens,
        "precision": precision, "implementation": implementation}, layout)


def score_on_rank(
    model: str, input_file: str, output_file: str, layout: dict, temperature: float, pack_tokens: int, precision: str,
    implementation: str,
) -> None:
    """One rank's share of `score`."""
    groups = start(LayoutConfig(**layout))
    final = Path(output_file)
    partial = final.with_name(f".{final.name}.partial")
    try:
        config, head = read_model_config(Path(model)), HeadConfig(implementation=implementation)
        chunks = build_policy(config, groups, PolicySettings(precision=precision, head=head))
        load_model_folder(Path(model), chunks, groups)
        for chunk in chunks:
            chunk.eval()
        sequences = read_sequences(Path(input_file), config)
        with partial.open("w") if groups.rank == 0 else nullcontext() as output:
            while lines := list(islice(sequences, LINES_AT_A_TIME)):
                scored = _score(lines, chunks, groups, temperature, pack_tokens)
                if output is not None:
                    output.writelines(json.dumps({"log_probs": row}) + "\n" for row in scored)
        if groups.rank == 0:
            os.replace(partial, final)
    finally:
        if groups.rank == 0:
            partial.unlink(missing_ok=True)
        stop()


def _check_output(path: Path) -> None:
    """Raises UserError where the file could not be written, before anything is computed."""
    if path.is_dir():
        raise UserError(f"command line: --output={path}: is a folder; name a file")
    if not path.parent.is_dir():
        raise UserError(f"command line: --output={path}: there is no folder {path.parent}; make it first")
    if not os.access(path.parent, os.W_OK):
        raise UserError(f"command line: --output={path}: {path.parent} cannot be written to; name another folder")


def read_sequences(path: Path, model: ModelConfig) -> Iterator[tuple[int, ...]]:
    """The token sequences of a JSONL file, each line checked. Raises UserError naming file and line."""
    try:
        file = path.open(encoding="utf-8", errors="surrogateescape")
    except OSError as error:
        raise UserError(f"{path}: {error.strerror or error}; give a JSONL file of token_ids") from None
    number = 0
    with file:
        for number, line in enumerate(file, 1):
            yield _sequence(line, f"{path}:{number}", model)
    if number == 0:
        raise UserError(f'{path}: is empty; write one {{"token_ids": [1, 2, 3]}} a line')


def _sequence(line: str, where: str, model: ModelConfig) -> tuple[int, ...]:
    try:
        ids = json.loads(line)["token_ids"]
    except (ValueError, KeyError, TypeError, RecursionError):
        raise UserError(f'{where}: not an object with token_ids; write e.g. {{"token_ids": [1, 2, 3]}}') from None
    if not isinstance(ids, list) or not ids or any(type(token) is not int for token in ids):
        raise UserError(f"{where}: token_ids must be a list of one or more integers")
    wrong = next((token for token in ids if not 0 <= token < model.vocab_size), None)
    if wrong is not None:
        raise UserError(f"{where}: token id {wrong} is not in the vocabulary; legal are 0 to {model.vocab_size - 1}")
    if len(ids) > model.max_context:
        raise UserError(f"{where}: {len(ids)} tokens, but model.max_context={model.max_context}; cut the sequence")
    return tuple(ids)


def _score(
    lines: Sequence[tuple[int, ...]], chunks: Sequence, groups: Groups, temperature: float, pack_tokens: int
) -> list[list[float | None]]:
    """Log-probs of every line, on every rank."""
    samples = [TrainSample(ids, (0, *[1] * (len(ids) - 1)), per_sample={"line": float(number)})
               for number, ids in enumerate(lines)]
    packs = replica_packs(samples, pack_tokens, 0, groups)
    mine: dict[int, list[float]] = {}
    for pack, log_probs_T in zip(packs, score_packs(chunks, packs, groups, temperature), strict=True):
        edges = pack.cu_seqlens.tolist()
        for sequence, line in enumerate(pack.per_sample["line"].tolist()):
            mine[int(line)] = log_probs_T[edges[sequence]:edges[sequence + 1] - 1].tolist()
    parts: list[dict[int, list[float]]] = [{} for _ in range(groups.dp.size())]
    dist.all_gather_object(parts, mine, group=groups.dp)
    found = {line: row for part in parts for line, row in part.items()}
    return [[None, *found[number]] for number in range(len(lines))]

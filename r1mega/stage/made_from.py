"""What a run's data and tokenizer were made from, so that they are made again when any of it is another."""

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path

from r1mega.config import Recipe
from r1mega.config.data import FilesSource, HuggingFaceSource
from r1mega.config.preference import PreferenceFiles, PreferenceSet
from r1mega.config.sft import SampleFiles, SampleSet
from r1mega.data.suites.files import suite_files
from r1mega.stage.reward_model_folder import reward_model_folders
from r1mega.stage.sft_data import sources_of

FIELDS = {"data": True, "tokenizer": True, "pretrain": True, "sft": True, "preference": True, "rejection": True,
          "rollout": {"problems_per_step"}, "model": {"vocab_size", "max_context"}}


def made_from(recipe: Recipe, base_dir: Path, origin: str | None) -> str:
    """The text of data/made_from.json: the keys that decide, the contents of every local file, the run before."""
    keys = recipe.model_dump_json(include=FIELDS)
    return json.dumps({"recipe": hashlib.sha256(keys.encode()).hexdigest(), "origin": origin,
                       "files": {str(path): _digest(path) for path in _files(recipe, base_dir)}}, indent=1)


def changed_file(stamp: Path, wanted: str) -> str | None:
    """The first file whose contents `stamp` says otherwise than `wanted`, or that only one of them names."""
    if not stamp.exists():
        return None
    before, now = json.loads(stamp.read_text(encoding="utf-8"))["files"], json.loads(wanted)["files"]
    return next((path for path in sorted(before.keys() | now.keys()) if before.get(path) != now.get(path)), None)


def _files(recipe: Recipe, base_dir: Path) -> Iterator[Path]:
    samples = sources_of(recipe)[1]
    own = samples.sources if samples is not None else recipe.rejection.files if recipe.rejection is not None else ()
    for source in (*recipe.data.sources, *own):
        if isinstance(source, FilesSource | SampleFiles | PreferenceFiles):
            yield from (base_dir / path for path in source.paths)
        elif isinstance(source, HuggingFaceSource | SampleSet | PreferenceSet):
            yield from _below(base_dir / source.path)
    if recipe.stage == "evaluate":
        for path in recipe.evaluation.suites.paths:
            yield from suite_files(Path(path))
    for path in map(Path, recipe.rejection.decontaminate if recipe.rejection is not None else ()):
        yield from suite_files(path) if path.suffix == ".toml" else (path,)
    yield from (folder / "manifest.json" for folder in reward_model_folders(recipe).values())
    if recipe.sft is not None and recipe.sft.teacher is not None:
        yield Path(recipe.sft.teacher.model, "manifest.json")
    if recipe.tokenizer.path is not None:
        yield from _below(Path(recipe.tokenizer.path))


def _below(folder: Path) -> Iterator[Path]:
    """The files of a local folder; none where the text is a name on the hub."""
    return (path for path in sorted(folder.rglob("*")) if path.is_file())


def _digest(path: Path) -> str | None:
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError:
        return None  # whoever reads it will say why

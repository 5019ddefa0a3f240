"""A pipeline: stages, each a recipe, and which model each starts from."""

from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, ValidationError

from r1mega.config.error import UserError
from r1mega.config.section import Section
from r1mega.config.toml_read import read_toml

NAME = r"^[A-Za-z0-9][A-Za-z0-9._]*$"


class StageEntry(Section):
    recipe: str
    """A recipe file, relative to the pipeline's."""
    start: str | None = None
    """The stage whose model this one starts from; without one, the recipe's own [start]."""
    set: list[str] = []
    """Overrides of the recipe, as on the command line: "train.steps=100"."""


class PipelineConfig(Section):
    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")
    seed: int = Field(0, ge=0, lt=2**31)
    """Of every stage."""
    runs_dir: str = Field("runs", min_length=1)
    code: str | None = None
    """Stands for the version of our code, on which results depend; by default a hash of its sources. Give a word of
    your own to keep results across changes of code that change none."""
    stages: dict[Annotated[str, Field(pattern=NAME)], StageEntry] = Field(min_length=1)


def is_pipeline(path: Path) -> bool:
    """Whether a TOML file is a pipeline rather than a recipe: it has stages."""
    try:
        return "stages" in read_toml(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False  # whoever reads it as a recipe says why


def load_pipeline(path: Path) -> PipelineConfig:
    """Read and check the file by itself, its recipes unread. Raises UserError naming the key and what is legal."""
    try:
        data: dict[str, Any] = read_toml(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: cannot be read as TOML ({' '.join(str(error).split())[:120]})") from None
    try:
        pipeline = PipelineConfig.model_validate({"name": path.stem} | data)
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(part) for part in first["loc"] if part != "[key]")
        legal = ", ".join(StageEntry.model_fields if key.startswith("stages") else PipelineConfig.model_fields)
        raise UserError(f"{path}: {key}: {first['msg'].lower()}; keys there are {legal}") from None
    for name, stage in pipeline.stages.items():
        _check_start(path, name, stage, pipeline)
    return pipeline


def _check_start(path: Path, name: str, stage: StageEntry, pipeline: PipelineConfig) -> None:
    above = [name]
    while stage.start is not None:
        key = f"{path}: stages.{above[-1]}.start=\"{stage.start}\""
        if stage.start not in pipeline.stages:
            raise UserError(f"{key}: no such stage; stages are {', '.join(pipeline.stages)}")
        if stage.start in above:
            raise UserError(f"{key}: goes in a circle ({' -> '.join([*above, stage.start])}); let one of them start "
                            "from its recipe's own [start]")
        above.append(stage.start)
        stage = pipeline.stages[stage.start]

"""A pipeline: stages, each a recipe, and whose models and data sets each reads."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, ValidationError

from r1mega.config.error import UserError
from r1mega.config.overrides import parse_override
from r1mega.config.section import Section
from r1mega.config.toml_read import read_toml

NAME = r"^[A-Za-z0-9][A-Za-z0-9_]*$"
START = "start.model"
OWN_KEYS = ("name", "seed", "runs_dir", "code")  # what the command line may override


class StageEntry(Section):
    recipe: str
    """A recipe file, relative to the pipeline's."""
    start: str | None = None
    """The stage whose model this one starts from; without one, the recipe's own [start]. Short for
    inputs = { "start.model" = STAGE }."""
    inputs: dict[str, str] = {}
    """Key of the recipe -> the stage whose model or data set it names, e.g. "sft.sources.0.paths" = "rejection"."""
    each: list[str] = []
    """Instead of start: as many stages, one for the model of each of these, called NAME.STAGE."""
    set: list[str] = []
    """Overrides of the recipe, as on the command line: "train.steps=100"."""

    @property
    def reads(self) -> Mapping[str, str]:
        """Key of the recipe -> stage."""
        return self.inputs if self.start is None else {START: self.start, **self.inputs}


class Claim(Section):
    """What the evaluations should show; the report says of each whether they do."""

    say: str
    """In words, for the report."""
    stage: str
    """Whose model is meant to be better."""
    metric: str = "pass@1"
    """As `r1mega compare` names it."""
    than: str | None = None
    """Whose model it is compared with; by default its own."""
    than_metric: str | None = None
    """By default `metric`."""
    by: float = 0.0
    """At least so much better; below 0, at most so much worse."""
    suite: str | None = None
    """The name of a suite; by default every suite that has both figures."""


class PipelineConfig(Section):
    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")
    seed: int = Field(0, ge=0, lt=2**31)
    """Of every stage."""
    runs_dir: str = Field("runs", min_length=1)
    code: str | None = None
    """Stands for the version of our code, on which results depend; by default a hash of its sources. Give a word of
    your own to keep results across changes of code that change none."""
    stages: dict[Annotated[str, Field(pattern=NAME)], StageEntry] = Field(min_length=1)
    claims: list[Claim] = []

    def single(self) -> Iterator[tuple[str, str, StageEntry]]:
        """(name, the name in the file, entry) of every stage, those with `each` as many."""
        for name, entry in self.stages.items():
            if not entry.each:
                yield name, name, entry
            for start in entry.each:
                yield f"{name}.{start}", name, entry.model_copy(update={"start": start, "each": []})


def is_pipeline(path: Path) -> bool:
    """Whether a TOML file is a pipeline rather than a recipe: it has stages."""
    try:
        return "stages" in read_toml(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False  # whoever reads it as a recipe says why


def load_pipeline(path: Path, overrides: Sequence[str] = ()) -> PipelineConfig:
    """Read and check the file by itself, its recipes unread, with `key=value` overrides of its own keys. Raises
    UserError naming the key and what is legal."""
    try:
        data: dict[str, Any] = read_toml(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: cannot be read as TOML ({' '.join(str(error).split())[:120]})") from None
    own = {override.path[0]: override.value for override in map(parse_override, overrides)}
    try:
        pipeline = PipelineConfig.model_validate({"name": path.stem} | data | own)
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(part) for part in first["loc"] if part != "[key]")
        known = {"stages": StageEntry, "claims": Claim}.get(key.partition(".")[0], PipelineConfig)
        raise UserError(f"{path}: {key}: {first['msg'].lower()}; keys there are "
                        f"{', '.join(known.model_fields)}") from None
    _check_references(path, pipeline)
    _check_circles(path, pipeline)
    return pipeline


def _check_references(path: Path, pipeline: PipelineConfig) -> None:
    names = [name for name, _, _ in pipeline.single()]
    used: list[tuple[str, str]] = []
    for name, entry in pipeline.stages.items():
        if entry.each and entry.start is not None:
            raise UserError(f"{path}: stages.{name}.start: each is set too, and names the models to start from; keep "
                            "one of them")
        used += [(f"stages.{name}.start", entry.start)] if entry.start is not None else []
        used += [(f"stages.{name}.each", start) for start in entry.each]
        used += [(f'stages.{name}.inputs."{key}"', stage) for key, stage in entry.inputs.items()]
    for number, claim in enumerate(pipeline.claims):
        used += [(f"claims.{number}.stage", claim.stage), (f"claims.{number}.than", claim.than or claim.stage)]
    for key, stage in used:
        if stage not in names:
            raise UserError(f'{path}: {key}="{stage}": no such stage; stages are {", ".join(names)}')


def _check_circles(path: Path, pipeline: PipelineConfig) -> None:
    entries = {name: entry for name, _, entry in pipeline.single()}

    def visit(name: str, above: tuple[str, ...]) -> None:
        for key, before in entries[name].reads.items():
            if before in (*above, name):
                short = "start" if key == START else f'inputs."{key}"'
                raise UserError(f'{path}: stages.{name}.{short}="{before}": goes in a circle '
                                f"({' -> '.join([*above, name, before])}); let one of them start from its recipe's own "
                                "[start]")
            visit(before, (*above, name))

    for name in entries:
        visit(name, ())

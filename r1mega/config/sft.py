"""Supervised fine-tuning: which samples, in which mix, how often."""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from r1mega.config.error import Mistake
from r1mega.config.section import RelativePath, Section


class SampleFields(Section):
    """Which column holds what. A row has `messages`, or `prompt` and `response`; the rest may be missing."""

    prompt: str = "prompt"
    """Text, or a list of messages that ends before the response."""
    response: str = "response"
    messages: str = "messages"
    """A list of {role, content}, the last one the assistant's."""
    source: str = "source"
    """Where the row is from, for metrics; rows without one, and all if this is empty, have the source's `name`."""
    id: str = "id"


class _SampleSource(Section):
    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")
    """What metrics call it."""
    weight: float | None = Field(None, gt=0)
    """Its share of an epoch, against the other sources' weights; by default its size (all of it, once an epoch)."""
    limit: int | None = Field(None, ge=1)
    """Only so many rows, the first ones."""
    fields: SampleFields = SampleFields()


class SampleFiles(_SampleSource):
    """Samples from local JSONL or parquet files."""

    kind: Literal["files"] = "files"
    paths: list[Annotated[str, RelativePath()]] = Field(min_length=1)
    """Relative to the recipe file that names them."""


class SampleSet(_SampleSource):
    """Samples from a Hugging Face dataset (the hub, or a folder `datasets.load_dataset` can read)."""

    kind: Literal["huggingface"] = "huggingface"
    path: Annotated[str, RelativePath(or_name=True)]
    subset: str | None = None
    split: str = "train"


SampleSource = Annotated[SampleFiles | SampleSet, Field(discriminator="kind")]


class TeacherConfig(Section):
    """Logit distillation: the student also learns a finished model's distribution (arXiv 1503.02531, section 2).

    The loss of a response token is (1 - coef) x cross-entropy + coef x temperature^2 x KL(teacher || student), both
    distributions over the whole vocabulary and at the temperature. The paper's own students have no teacher: they
    learn R1's samples.
    """

    model: Annotated[str, RelativePath()]
    """A model folder or a checkpoint of a run, of any architecture, with the student's tokenizer."""
    coef: float = Field(0.5, gt=0, le=1)
    temperature: float = Field(1.0, gt=0)


class SftConfig(Section):
    """Defaults are the paper's (arXiv 2501.12948, supplement): 2-3 epochs, batches of 128."""

    sources: list[SampleSource] = Field(min_length=1)
    epochs: int = Field(2, ge=1)
    """Passes over the mix; with `samples_per_step` and the data they make `train.steps`."""
    samples_per_step: int = Field(128, ge=1)
    heldout_samples: int = Field(0, ge=0)
    """Not trained on, chosen by content hash; their loss is logged with every evaluation."""
    max_tokens: int | None = Field(None, ge=2)
    """Longest sample, prompt and response together; by default model.max_context."""
    overlong: Literal["error", "drop"] = "error"
    heldout_questions: Literal["error", "drop"] = "error"
    """What becomes of a sample that asks one of data's held-out problems."""
    teacher: TeacherConfig | None = None

    @model_validator(mode="after")
    def _sources_fit_each_other(self) -> "SftConfig":
        names = [source.name for source in self.sources]
        for number, source in enumerate(self.sources):
            if source.name in names[:number]:
                raise Mistake(f"sources.{number}.name", "another source has this name; give each its own")
            if (source.weight is None) != (self.sources[0].weight is None):
                raise Mistake(f"sources.{number}.weight", "either every source has a weight or none has; add it to all")
        return self

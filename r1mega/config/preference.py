"""Reward models: which judgements they are trained on, how often."""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from r1mega.config.error import Mistake
from r1mega.config.section import RelativePath, Section


class PreferenceFields(Section):
    """Which column holds what; `chosen` and `rejected` are read for kind = pairwise, `response` and `safe` for
    pointwise."""

    prompt: str = "prompt"
    chosen: str = "chosen"
    rejected: str = "rejected"
    response: str = "response"
    safe: str = "safe"
    """true or false, or 1 or 0."""
    id: str = "id"


class _PreferenceSource(Section):
    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")
    """What messages call it."""
    weight: float | None = Field(None, gt=0)
    """Its share of an epoch, against the other sources' weights; by default its size (all of it, once an epoch)."""


class _Rows(_PreferenceSource):
    limit: int | None = Field(None, ge=1)
    """Only so many rows, the first ones."""
    fields: PreferenceFields = PreferenceFields()


class PreferenceFiles(_Rows):
    """Judgements from local JSONL or parquet files."""

    kind: Literal["files"] = "files"
    paths: list[Annotated[str, RelativePath()]] = Field(min_length=1)
    """Relative to the recipe file that names them."""


class PreferenceSet(_Rows):
    """Judgements from a Hugging Face dataset (the hub, or a folder `datasets.load_dataset` can read)."""

    kind: Literal["huggingface"] = "huggingface"
    path: Annotated[str, RelativePath(or_name=True)]
    subset: str | None = None
    split: str = "train"


class GeneralPreferences(_PreferenceSource):
    """Judgements of replies to the generated general prompts (data/general_problems.py), none to a held-out one."""

    kind: Literal["general"] = "general"
    size: int = Field(ge=1)
    seed: int = 0


PreferenceSource = Annotated[PreferenceFiles | PreferenceSet | GeneralPreferences, Field(discriminator="kind")]


class PreferenceConfig(Section):
    """Defaults are the paper's (arXiv 2501.12948, supplement): batches of 256, one epoch."""

    kind: Literal["pairwise", "pointwise"]
    """pairwise: of two replies the chosen one shall score higher (Bradley-Terry), judged by the summary alone;
    pointwise: a safe reply shall score above 0, an unsafe one below (cross-entropy), judged as a whole."""
    sources: list[PreferenceSource] = Field(min_length=1)
    epochs: int = Field(1, ge=1)
    """Passes over the sources; with `samples_per_step` and the data they make `train.steps`."""
    samples_per_step: int = Field(256, ge=1)
    """Pairs, or replies."""
    heldout_samples: int = Field(0, ge=0)
    """Not trained on, chosen by content hash; accuracy and loss on them are logged with every evaluation."""
    max_tokens: int | None = Field(None, ge=2)
    """Longest prompt with one reply; by default model.max_context."""
    overlong: Literal["error", "drop"] = "error"
    heldout_questions: Literal["error", "drop"] = "error"
    """What becomes of a judgement of replies to one of data's held-out problems."""

    @model_validator(mode="after")
    def _sources_fit_each_other(self) -> "PreferenceConfig":
        names = [source.name for source in self.sources]
        for number, source in enumerate(self.sources):
            if source.name in names[:number]:
                raise Mistake(f"sources.{number}.name", "another source has this name; give each its own")
            if (source.weight is None) != (self.sources[0].weight is None):
                raise Mistake(f"sources.{number}.weight", "either every source has a weight or none has; add it to all")
        return self


class PreferenceReward(Section):
    """What a general prompt earns beside the format reward: the scores of frozen reward models, each through the
    sigmoid, so between 0 and 1. Without this section general prompts are not trained on, only evaluated."""

    helpfulness: Annotated[str | None, RelativePath()] = None
    """A model of kind = pairwise: a model folder, a checkpoint or a run. Sees the question and the summary; a reply
    without a summary earns 0."""
    safety: Annotated[str | None, RelativePath()] = None
    """A model of kind = pointwise. Sees the question and the whole reply."""
    helpfulness_weight: float = Field(1.0, ge=0)
    safety_weight: float = Field(1.0, ge=0)
    from_step: int = Field(1, ge=1)
    """The first step that asks general prompts; those before ask none (the paper: only in the last 400 of 1,700)."""
    share: float | None = Field(None, gt=0, le=1)
    """Of a step's problems, those that are general prompts; by default their share of the data."""
    on_alarm: Literal["warn", "stop"] = "warn"
    """What follows when the preference reward rises while something that is measured without reward models falls: a
    message, or a message and the end of the run."""
    alarm_window: int = Field(4, ge=1)
    """Evaluations that the newest one is compared with."""
    alarm_rise: float = Field(0.05, ge=0)
    """Of the mean preference reward, so between 0 and 1. The fall that counts is one that parts the 95% intervals."""

    @model_validator(mode="after")
    def _has_a_model(self) -> "PreferenceReward":
        if self.helpfulness is None and self.safety is None:
            raise Mistake("helpfulness", "is missing, and safety too; name one of them, a folder of a reward model")
        if not any(self.weights.values()):
            raise Mistake("helpfulness_weight", "no reward model has a weight, so no general reply earns anything; set "
                                                "one > 0")
        return self

    @property
    def weights(self) -> dict[str, float]:
        """Of the models that are there."""
        named = {"helpfulness": self.helpfulness_weight, "safety": self.safety_weight}
        return {name: weight for name, weight in named.items() if getattr(self, name) is not None}

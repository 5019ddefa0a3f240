"""A whole recipe: every section of one stage's run."""

from typing import Annotated, Literal

from pydantic import Field

from r1mega.config.data import DataConfig, TokenizerConfig
from r1mega.config.head import HeadConfig
from r1mega.config.layout import LayoutConfig
from r1mega.config.model import ModelConfig
from r1mega.config.preference import PreferenceConfig
from r1mega.config.rejection import RejectionConfig
from r1mega.config.rl import EvaluationConfig, GrpoConfig, RewardConfig, RolloutConfig
from r1mega.config.section import RelativePath, Section
from r1mega.config.sft import SftConfig
from r1mega.config.training import CheckpointConfig, LogConfig, OptimizerConfig, TrainConfig


class PretrainConfig(Section):
    """The stand-in for a base model: next-token prediction on text made from the problem families."""

    documents_per_step: int = Field(ge=1)
    """Over all ranks; a count of documents, so that the position in the data is the step alone."""
    styles: dict[str, float] = {}
    """Share of each way a document is written (see r1mega/data/corpus.py)."""


class StartConfig(Section):
    """Where the weights come from: random (neither key), a model folder, or the run of another recipe."""

    model: Annotated[str | None, RelativePath()] = None
    """A model folder or a checkpoint of a run."""
    recipe: Annotated[str | None, RelativePath()] = None
    """A recipe file, relative to this one; it is run first (with the same seed) unless its model is there."""


WITHOUT_MODEL = ("evaluate", "rejection_sampling")  # stages that leave no model, so that nothing can start from them


class Recipe(Section):
    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")
    """Of the run folder; by default the file's path under configs/, e.g. tiny-zero."""
    stage: Literal["pretrain", "sft", "preference", "rl", "rejection_sampling", "evaluate"]
    """rejection_sampling: samples of the model it starts from, as a dataset in RUN/dataset. evaluate: the suites of
    evaluation.suites on that model, into RUN/evaluation. Neither trains."""
    seed: int = Field(0, ge=0, lt=2**31)
    runs_dir: str = "runs"
    start: StartConfig = StartConfig()
    model: ModelConfig
    head: HeadConfig = HeadConfig()
    layout: LayoutConfig = LayoutConfig()
    data: DataConfig
    tokenizer: TokenizerConfig = TokenizerConfig()
    pretrain: PretrainConfig | None = None
    sft: SftConfig | None = None
    preference: PreferenceConfig | None = None
    rejection: RejectionConfig | None = None
    rollout: RolloutConfig | None = None
    reward: RewardConfig = RewardConfig()
    algorithm: GrpoConfig = GrpoConfig()
    evaluation: EvaluationConfig = EvaluationConfig()
    optimizer: OptimizerConfig
    train: TrainConfig
    checkpoint: CheckpointConfig = CheckpointConfig()
    log: LogConfig = LogConfig()

"""Weights and configurations in Hugging Face's DeepSeek-V3 layout."""

from r1mega.model.hf.config import SourceConfig, hf_config, read_hf_config
from r1mega.model.hf.folder import HfFolder
from r1mega.model.hf.rope import interleaving
from r1mega.model.hf.writer import FolderWriter, TensorPlan, plan_tensors

__all__ = ["FolderWriter", "HfFolder", "SourceConfig", "TensorPlan", "hf_config", "interleaving", "plan_tensors",
           "read_hf_config"]

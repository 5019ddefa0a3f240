"""Stages as a graph: addressed by what they depend on, run in order, gone on with after anything."""

from r1mega.pipeline.graph import Stage, load_stages
from r1mega.pipeline.run import Choice, run_pipeline
from r1mega.pipeline.status import StageStatus, status

__all__ = ["Choice", "Stage", "StageStatus", "load_stages", "run_pipeline", "status"]

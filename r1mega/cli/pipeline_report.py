"""The report of a pipeline, and of each of its stages."""

from collections.abc import Sequence
from pathlib import Path

from r1mega.config.pipeline import load_pipeline


def write_reports(path: Path, stages: Sequence) -> Path:
    """Write report.html in the folder of every stage that has run, and the pipeline's own beside them; the latter."""
    from r1mega.pipeline import status
    from r1mega.record.metric import METRICS_FILE
    from r1mega.report import StageSummary, write_pipeline_report, write_report

    for stage in stages:
        if (stage.run_dir / METRICS_FILE).is_file():
            write_report([stage.run_dir])
    summaries = [StageSummary(entry.stage.name, entry.stage.recipe.stage,
                              tuple(dict.fromkeys(entry.stage.inputs.values())), entry.stage.run_dir, entry.state)
                 for entry in status(stages)]
    pipeline = load_pipeline(path)
    output = Path(stages[0].recipe.runs_dir).expanduser() / "report.html"
    return write_pipeline_report(pipeline.name, summaries, pipeline.claims, output)

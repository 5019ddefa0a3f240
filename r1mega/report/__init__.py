"""Reads run folders; writes pages and figures."""

from r1mega.report.page import write_report
from r1mega.report.pipeline_page import StageSummary, write_pipeline_report
from r1mega.report.readme_figure import plot_curves

__all__ = ["StageSummary", "plot_curves", "write_pipeline_report", "write_report"]

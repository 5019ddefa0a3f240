"""Reads run folders; writes pages and figures."""

from r1mega.report.page import write_report
from r1mega.report.readme_figure import plot_curves

__all__ = ["plot_curves", "write_report"]

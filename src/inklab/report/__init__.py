"""The report of a run: one page that opens offline and prints well."""

from inklab.report.page import build_report, write_report
from inklab.run import RunView

__all__ = ["RunView", "build_report", "write_report"]

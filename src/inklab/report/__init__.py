"""The report of a run: one page that opens offline and prints well."""

from inklab.report.page import build_report, write_report
from inklab.run import RunData

__all__ = ["RunData", "build_report", "write_report"]

"""The report of a run: one page that opens offline and prints well."""

from inklab.report.page import build_report, write_report

__all__ = ["build_report", "write_report"]

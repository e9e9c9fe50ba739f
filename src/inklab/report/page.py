"""The page: one file that opens offline. Its only script is that of the drawing pad, allowed by its hash."""

from base64 import b64encode
from dataclasses import replace
from pathlib import Path

from inklab.format import typeset
from inklab.io.files import write_atomic
from inklab.records.plan import FindingsPlan
from inklab.report.figures import Figure, Figures, draw_figures, write_figures
from inklab.report.figures.palette import DARK, LIGHT, variables
from inklab.report.overview import commands, environment_table, headline_text, key_findings, time_table
from inklab.report.pad_demo import build_pad
from inklab.report.sections import TEMPLATES, Section, build_section
from inklab.report.tables import Table
from inklab.run import Run

MAX_CSV = 1_000_000
"""Characters of a figure's data in the page; the curves of 10,000 trainings have nine times as many."""


def build_report(run: Run, figures: Figures | None = None, *, has_pad: bool = True) -> str:
    """One self-contained HTML page with everything that a run has found out so far.

    It requests no font, script or image. A content security policy in its head enforces that and allows one
    script only, by its SHA-256: that of the drawing pad, if the run has a network that is small enough. Every
    text of a study or an outcome is escaped.

    Args:
        run: the run; what it lacks is left out, or named as missing.
        figures: those already drawn, so as not to draw them twice.
        has_pad: whether the drawing pad is part of the page, if the run has a network for it.

    Returns:
        The complete page, to be written as UTF-8.
    """
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"csv_link": csv_link, "typeset": typeset}
    return environment.get_template("report.html").render(
        title=run.plan.title or run.plan.study,
        note=run.plan.data.note,
        profile=run.plan.profile,
        headline=headline_text(run),
        findings=key_findings(run),
        sections=_build_sections(run, draw_figures(run) if figures is None else figures),
        pad=build_pad(run) if has_pad else None,
        environment=environment_table(run),
        commands=commands(run),
        time=time_table(run),
        light=variables(LIGHT),
        dark=variables(DARK),
    )


def _build_sections(run: Run, figures: Figures) -> list[Section]:
    """The sections in order. A table that an earlier one has, such as a network's layers, is left out.

    Findings are at the top of the page; their experiment has a section only if it has explanations.
    """
    earlier: list[Table] = []
    sections = []
    for plan in run.plan.experiments:
        section = build_section(run, plan, figures.get(plan.name, []))
        tables = [table for table in section.tables if table not in earlier]
        earlier += tables
        if not isinstance(plan, FindingsPlan) or section.explanations:
            sections.append(replace(section, tables=tables))
    return sections


def csv_link(figure: Figure) -> str:
    """A figure's data as a data URI; "" if they are too large for the page."""
    if len(figure.csv()) > MAX_CSV:
        return ""
    return "data:text/csv;charset=utf-8;base64," + b64encode(figure.csv().encode()).decode("ascii")


def write_report(run: Run, directory: Path | None = None) -> Path:
    """Draw everything once; write `figures/` and `report.html`.

    Args:
        run: the run.
        directory: where to; the run directory if left out.

    Returns:
        Path of the page.
    """
    figures, directory = draw_figures(run), directory or run.path
    write_figures(run, directory / "figures", figures)
    path = directory / "report.html"
    write_atomic(path, build_report(run, figures))
    return path

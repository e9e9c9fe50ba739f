"""The page: one file that opens offline. Nothing in it runs but the pad's script, known by its hash."""

from base64 import b64encode
from dataclasses import replace
from pathlib import Path

from inklab.io.atomic import write_atomic
from inklab.report.figures import Figure, Figures, RunData, draw_figures, write_figures
from inklab.report.figures.numerals import typeset
from inklab.report.figures.palette import DARK, LIGHT, variables
from inklab.report.overview import commands, environment_table, headline_text, key_findings, time_table
from inklab.report.pad_demo import build_pad
from inklab.report.sections import TEMPLATES, Section, build_section
from inklab.report.tables import Table

MAX_CSV = 1_000_000  # characters; the curves of 10,000 trainings would be nine times that


def build_report(run: RunData, figures: Figures | None = None) -> str:
    """One self-contained HTML page with everything that a run has found out so far.

    It asks for nothing from outside: no font, no script, no image; a content security policy in its head says
    so to the browser too, and lets run one script only, by its SHA-256: that of the pad, where the run has a
    network that is small enough. Every text of a study or an outcome is escaped.

    Args:
        run: the run; whatever it lacks is left out, or named as missing.
        figures: those already drawn, so as not to draw them twice.

    Returns:
        The page, complete, UTF-8 when written.
    """
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    drawn = draw_figures(run) if figures is None else figures
    chapters = _chapters(run, drawn)
    pages = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    pages.filters |= {"csv_link": csv_link, "typeset": typeset}
    return pages.get_template("report.html").render(
        title=str(run.plan.get("title") or run.plan.get("study") or "Report"),
        note=(run.plan.get("data") or {}).get("note"),
        profile=run.plan.get("profile"),
        headline=headline_text(run),
        findings=key_findings(run),
        chapters=chapters,
        pad=build_pad(run),
        environment=environment_table(run),
        commands=commands(run),
        time=time_table(run),
        light=variables(LIGHT),
        dark=variables(DARK),
    )


def _chapters(run: RunData, figures: Figures) -> list[Section]:
    """The chapters in order; a table that stood in an earlier one, such as a network's layers, is left out.

    Findings stand at the top of the page; their chapter comes only if it has written answers.
    """
    shown: list[Table] = []
    told = []
    for one in run.plan.get("chapters") or []:
        chapter = build_section(run, one, figures.get(one["name"], []))
        new = [table for table in chapter.tables if table not in shown]
        shown += new
        if one.get("kind") != "findings" or chapter.answers:
            told.append(replace(chapter, tables=new))
    return told


def csv_link(figure: Figure) -> str:
    """A figure's data as a link that holds them; empty where they would swell the page."""
    if len(figure.csv()) > MAX_CSV:
        return ""
    return "data:text/csv;charset=utf-8;base64," + b64encode(figure.csv().encode()).decode("ascii")


def write_report(run: RunData, to: Path | None = None) -> Path:
    """Draw everything once; write `figures/` and `report.html`.

    Args:
        run: the run.
        to: folder to write them to; the run's own if left out.

    Returns:
        Where the page is.
    """
    figures, folder = draw_figures(run), to or run.path
    write_figures(run, folder / "figures", figures)
    page = folder / "report.html"
    write_atomic(page, build_report(run, figures))
    return page

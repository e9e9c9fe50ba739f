"""Figures of a run: vector drawings whose colors follow the page, each with a description and its data."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from inklab.io.files import write_atomic
from inklab.records.plan import (
    AnyExperimentPlan,
    CorruptionErrorPlan,
    DataPlan,
    GenerationPlan,
    RobustnessPlan,
    TrainingPlan,
)
from inklab.records.results import (
    CorruptionErrorResults,
    GenerationResults,
    RobustnessResults,
    TrainingResults,
)
from inklab.report.figures.corruption_plot import corruption_dots
from inklab.report.figures.figure import Figure
from inklab.report.figures.generation_plots import generation_figures
from inklab.report.figures.image_plots import data_figures
from inklab.report.figures.robustness_plots import robustness_figures
from inklab.report.figures.summary_plot import summary_figure
from inklab.report.figures.training_plots import training_figures
from inklab.runs import Run

__all__ = ["SUMMARY", "Figure", "Figures", "draw_experiment", "draw_figures", "write_figures"]

Figures = Mapping[str, Sequence[Figure]]
"""The figures of each experiment, by its name; that of the summary by `SUMMARY`."""

SUMMARY = ""
"""No experiment has this name."""


def draw_figures(run: Run) -> Figures:
    """Draw every figure that a run's outcomes allow: that of the summary and those of each experiment.

    An experiment without any has an empty list.
    """
    summary = summary_figure(run)
    drawn = {experiment.name: draw_experiment(run, experiment) for experiment in run.plan.experiments}
    return {SUMMARY: [summary] if summary else [], **drawn}


def draw_experiment(run: Run, plan: AnyExperimentPlan) -> list[Figure]:
    """Draw the figures of one experiment, as far as its outcomes allow."""
    results = run.results.experiments.get(plan.name)
    figures: list[Figure | None] = []
    match plan, results:
        case DataPlan(), _:
            figures = data_figures(run, plan)
        case TrainingPlan(), TrainingResults():
            figures = training_figures(run, plan, results)
        case RobustnessPlan(), RobustnessResults():
            figures = robustness_figures(run, plan, results)
        case CorruptionErrorPlan(), CorruptionErrorResults():
            figures = [corruption_dots(run, plan, results)]
        case GenerationPlan(), GenerationResults():
            figures = generation_figures(run, plan, results)
    return [figure for figure in figures if figure is not None]


def write_figures(run: Run, directory: Path, figures: Figures | None = None) -> list[Path]:
    """Write each figure as `name.svg` and its data as `name.csv`; those already drawn are not drawn again.

    Returns:
        The files written, in the order of the experiments.
    """
    paths = []
    for drawn in (draw_figures(run) if figures is None else figures).values():
        for figure in drawn:
            for suffix, content in ((".svg", figure.for_file()), (".csv", figure.csv)):
                paths.append(directory / f"{figure.name}{suffix}")
                write_atomic(paths[-1], content)
    return paths

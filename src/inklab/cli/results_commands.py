"""Commands that read a run: status, show, report, compare."""

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from inklab.cli.console import AsJson, RunArg, app, echo, echo_json, echo_table, find_run
from inklab.errors import EXIT_OK

if TYPE_CHECKING:
    from inklab.records.results import Results
    from inklab.records.status import Progress


@app.command()
def status(run: RunArg = "latest", as_json: AsJson = False) -> int:
    """Show how far a run is: trials and evaluations by state."""
    from inklab.format import pluralize
    from inklab.study.monitor import RunMonitor
    from inklab.study.run_directory import RunDirectory

    run_directory = RunDirectory.existing(find_run(run))
    plan, progress = run_directory.plan(), RunMonitor(run_directory, max_curves=0).poll()
    orphaned = run_directory.orphaned(plan)
    if as_json:
        about = {"run": str(run_directory.path), "study": plan.study, "profile": plan.profile}
        echo_json({**about, **progress.to_json(), "orphaned": orphaned})
        return EXIT_OK
    echo(
        f"{run_directory.path}\nstudy {plan.study}, profile {plan.profile}, data {plan.data.dataset}, "
        f"seed {plan.seed}\n"
    )
    _print_states(progress)
    if orphaned:
        echo(
            f"\n{pluralize(orphaned, 'outcome')} of other settings, data or versions of inklab "
            "are stored here, too; no number includes them"
        )
    _print_running(progress)
    return EXIT_OK


def _print_states(progress: "Progress") -> None:
    experiments = [experiment for experiment in progress.experiments if experiment.total]
    states = list(dict.fromkeys(state for experiment in experiments for state in experiment.outcomes))
    rows = [
        [experiment.name, *(str(experiment.outcomes.get(state, "")) for state in states)]
        for experiment in experiments
    ]
    right = tuple(range(1, len(states) + 1))
    echo_table(["experiment", *(state.value for state in states)], rows, right=right)


def _print_running(progress: "Progress") -> None:
    """What the process that drives the run is at."""
    from inklab.format import format_duration, format_number

    if progress.started_at is None:
        return
    left = "" if progress.seconds_left is None else f", about {format_duration(progress.seconds_left)} left"
    echo(f"\nrunning for {format_duration(time.time() - progress.started_at)}{left}")
    for job in progress.running:
        epoch = "" if job.epoch is None else f", epoch {job.epoch} of {job.epochs}"
        loss = "" if job.train_loss is None else f", loss {format_number(job.train_loss)}"
        echo(f"  {job.label}{epoch}{loss}")


@app.command()
def show(run: RunArg = "latest", as_json: AsJson = False) -> int:
    """Show the results of a run; --json prints results.json (docs/results.schema.json)."""
    from inklab.run import Run

    results = Run(find_run(run)).results
    if as_json:
        echo_json(results.to_json())
    else:
        print_results(results)
    return EXIT_OK


@app.command()
def report(
    run: RunArg = "latest",
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="Directory to write to. [default: the run directory]"),
    ] = None,
) -> int:
    """Compute a run's results again, draw its figures and write its report.html."""
    from inklab.io.files import gc_paused
    from inklab.report.page import write_report
    from inklab.results.summarize import results_of
    from inklab.run import RESULTS, Run
    from inklab.study.run_directory import RunDirectory

    path = find_run(run)
    directory = output or path
    with gc_paused():
        snapshot = RunDirectory.existing(path).snapshot()
        results_of(path, snapshot).write(directory / RESULTS)
        page = write_report(Run(path, snapshot=snapshot), directory)
    echo(str(page))
    return EXIT_OK


@app.command()
def compare(
    run: RunArg,
    a: Annotated[
        str, typer.Argument(metavar="A", help="An experiment, or experiment:key=value for a setting.")
    ],
    b: Annotated[str, typer.Argument(metavar="B", help="What A is compared with.")],
    as_json: AsJson = False,
) -> int:
    """Compare two settings in pairs, replicate by replicate."""
    from inklab.results.comparison import compare as compare_settings
    from inklab.run import Run

    loaded = Run(find_run(run))
    comparison = compare_settings(loaded.plan, loaded.outcomes, a, b)
    if as_json:
        echo_json({**comparison.to_json(), "sentence": comparison.sentence})
    else:
        echo(comparison.sentence)
    return EXIT_OK


def print_results(results: "Results") -> None:
    """Print the metrics of a run as a table, and its findings."""
    from inklab.metrics import SHOW_METRICS, get_metric

    images = f"{results.data.test:,} test images"
    rows = [
        [f"{name} {setting.label}".strip(), get_metric(metric).label]
        + [setting.metrics[metric].format(metric, images=images)]
        for name, experiment in results.training.items()
        for setting in experiment.settings
        for metric in SHOW_METRICS
        if metric in setting.metrics and setting.metrics[metric].n
    ]
    if rows:
        echo_table(["experiment", "metric", "estimate"], rows)
    for finding in results.findings:
        echo(f"\n- {finding}")

"""Commands that read a run: status, show, report, compare."""

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from inklab.cli.app import AsJson, RunArg, app, echo, echo_json, find_run, table
from inklab.errors import EXIT_OK


@app.command()
def status(run: RunArg = "latest", as_json: AsJson = False) -> int:
    """How far a run is: trials and evaluations by outcome."""
    from inklab.results.experiment_summary import counts_of
    from inklab.results.phrases import pluralize
    from inklab.results.summarize import evaluations_of, trials_of
    from inklab.study.monitor import is_running, read_live, waiting_of
    from inklab.study.run_directory import RunDirectory

    folder = RunDirectory.existing(find_run(run))
    plan = folder.plan()
    states = folder.states(plan)
    now = is_running(plan, waiting_of(plan, states), read_live(folder))
    told = {
        chapter["name"]: counts_of([*trials_of(chapter), *evaluations_of(chapter)], states)
        for chapter in plan["chapters"]
    }
    told = {name: outcomes for name, outcomes in told.items() if outcomes}
    strangers = folder.orphaned(plan)
    if as_json:
        echo_json({
            "run": str(folder.path), "study": plan["study"], "profile": plan["profile"], "outcomes": told,
            "not_asked_for": strangers, **now,
        })  # fmt: skip
        return EXIT_OK
    echo(
        f"{folder.path}\nstudy {plan['study']}, profile {plan['profile']}, data {plan['data']['source']}, "
        f"seed {plan['seed']}\n"
    )
    columns = list(dict.fromkeys(state for outcomes in told.values() for state in outcomes))
    rows = [[name, *(str(outcomes.get(state, "")) for state in columns)] for name, outcomes in told.items()]
    table(["chapter", *columns], rows, right=tuple(range(1, len(columns) + 1)))
    if strangers:
        echo(
            f"\n{pluralize(strangers, 'outcome')} of other settings, data or versions of inklab also here: "
            "kept, and part of no number"
        )
    for line in _now(now):
        echo(line)
    return EXIT_OK


def _now(now: Mapping[str, Any]) -> list[str]:
    """What the run's driver is at, in words."""
    from inklab.cli.progress_display import duration

    if now["since"] is None:
        return []
    left = "" if now["seconds_left"] is None else f", about {duration(now['seconds_left'])} left"
    lines = [f"\nit is being run, for {duration(time.time() - now['since'])} now{left}"]
    for job in now["running"]:
        epoch = "" if job["epoch"] is None else f", epoch {job['epoch']} of {job['epochs']}"
        loss = "" if job["loss"] is None else f", loss {job['loss']:.4f}"
        lines.append(f"  {job['label']}{epoch}{loss}")
    return lines


@app.command()
def show(run: RunArg = "latest", as_json: AsJson = False) -> int:
    """What a run found out; with --json the contract that other programs read (docs/results.schema.json)."""
    from inklab.io.documents import read_json
    from inklab.results.summarize import results_of
    from inklab.study.forms.results import check_results
    from inklab.study.run_directory import RunDirectory

    folder = RunDirectory.existing(find_run(run))
    path = folder.path / "results.json"
    results = check_results(read_json(path), path) if path.is_file() else results_of(folder)
    if as_json:
        echo_json(results)
    else:
        show_results(results)
    return EXIT_OK


@app.command()
def report(
    run: RunArg = "latest",
    folder: Annotated[
        Path | None, typer.Option("--out", help="Where to write. [default: into the run, results.json too]")
    ] = None,
) -> int:
    """Draw a run's figures again and write its report.html."""
    from inklab.io.documents import gc_paused
    from inklab.report.page import write_report
    from inklab.results.summarize import write_results
    from inklab.run import StoredRun
    from inklab.study.run_directory import RunDirectory

    read = RunDirectory.existing(find_run(run))
    to = folder or read.path
    with gc_paused():
        snapshot = read.snapshot()
        write_results(read, snapshot, to)
        page = write_report(StoredRun(read, snapshot=snapshot), to)
    echo(str(page))
    return EXIT_OK


@app.command()
def compare(
    run: RunArg,
    a: Annotated[
        str, typer.Argument(metavar="A", help="A chapter, or chapter:key=value for one of its settings.")
    ],
    b: Annotated[str, typer.Argument(metavar="B", help="What it is compared with.")],
    as_json: AsJson = False,
) -> int:
    """Compare two settings in pairs, replicate by replicate."""
    from inklab.results.comparison import compare_settings as compared
    from inklab.study.run_directory import RunDirectory

    folder = RunDirectory.existing(find_run(run))
    plan = folder.plan()
    told = compared(plan, folder.outcomes(plan), a, b)
    if as_json:
        echo_json(told)
    else:
        echo(told["sentence"])
    return EXIT_OK


SHOWN = ("test_accuracy", "test_loss", "test_bce", "test_psnr", "validation_accuracy", "validation_bce")


def show_results(results: Mapping[str, Any]) -> None:
    """Print a run's numbers as a table, and its findings."""
    rows = []
    for name, chapter in results["chapters"].items():
        if not isinstance(chapter, dict):
            continue
        for part in chapter.get("settings", [chapter]):
            label = name if part is chapter else f"{name} {_values(part, chapter)}"
            rows += [[label, *row] for row in _scores(part)]
    if rows:
        table(["chapter", "score", "mean", "95 % CI", "n"], rows, right=(2, 3, 4))
    findings = results["chapters"].get("findings", [])
    for finding in findings if isinstance(findings, list) else []:
        echo(f"\n- {finding}")


def _values(setting: Mapping[str, Any], chapter: Mapping[str, Any]) -> str:
    from inklab.results.phrases import format_value

    vary = chapter.get("vary") or []
    return ", ".join(f"{key}={format_value(setting[key])}" for key in vary if key in setting)


def _scores(part: Mapping[str, Any]) -> list[list[str]]:
    from inklab.results.phrases import has_zero_width

    rows = []
    for name in SHOWN:
        score = part.get(name)
        if isinstance(score, dict) and score.get("mean") is not None:
            scale, digits = (100, 2) if name.endswith("accuracy") else (1, 4)
            ci95 = score.get("ci95")
            if ci95 and scale == 100:
                ci95 = [min(max(bound, 0.0), 1.0) for bound in ci95]  # Student's t knows no bounds
            interval = "one replicate" if ci95 is None else "the same in all"
            if ci95 and not has_zero_width(score):
                interval = " to ".join(f"{bound * scale:.{digits}f}" for bound in ci95)
            rows.append(
                [
                    name,
                    f"{score['mean'] * scale:.{digits}f}" + (" %" if scale == 100 else ""),
                    interval,
                    str(score["n"]),
                ]
            )
    return rows

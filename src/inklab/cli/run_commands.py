"""Commands that compute: run, resume, train."""

import json
import os
import shlex
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from inklab.cli.console import (
    AsJson,
    RunArg,
    Sets,
    app,
    echo,
    echo_json,
    echo_table,
    find_run,
    info,
    runs_root,
)
from inklab.errors import EXIT_FAILED_TRIALS, EXIT_OK, ConfigError, RunError

if TYPE_CHECKING:
    from inklab.records.plan import GroupPlan, Plan
    from inklab.records.results import Results
    from inklab.study.load import LoadedSpec
    from inklab.study.resources import Cost, ExecutionOptions
    from inklab.study.runner import StudyRunner

EXPERIMENT_KEYS = ("network", "recipe", "normalize", "grid", "replicates")
"""Keys of `inklab train --set` that are meant below its only experiment."""

Workers = Annotated[
    int | None,
    typer.Option("--workers", min=1, max=256, help="Worker processes. [default: one for each core]"),
]
Threads = Annotated[
    int | None,
    typer.Option("--threads", min=1, max=1024, help="Threads of each worker. [default: as measured]"),
]
Precision = Annotated[
    Literal["auto", "fp32", "bf16"],
    typer.Option("--precision", metavar="auto|fp32|bf16", help="Of training; auto: bf16 where it is fast."),
]
Compile = Annotated[
    Literal["auto", "yes", "no"],
    typer.Option(
        "--compile", metavar="auto|yes|no", help="Compile training steps; auto: where that saves time."
    ),
]
CheckpointEvery = Annotated[
    float | None,
    typer.Option(
        "--checkpoint-every",
        min=0.0,
        metavar="SECONDS",
        help="Most training time that a crash may lose. [default: 30, or more to keep the cost below 1%]",
    ),
]
RunDir = Annotated[
    Path | None,
    typer.Option("--run-dir", help="The run directory. [default: runs/<name of the study>/<id>]"),
]
DryRun = Annotated[
    bool, typer.Option("--dry-run", help="Show what would be done and how long it takes; write nothing.")
]


@app.command("run")
def run_command(
    study: Annotated[
        str, typer.Argument(metavar="STUDY", help="A built-in study (inklab list studies) or a TOML file.")
    ] = "digits",
    profile: Annotated[
        str | None,
        typer.Option(help="A profile of the study (digits: quick, full). [default: its first]"),
    ] = None,
    data: Annotated[
        str | None, typer.Option(help="A dataset (inklab list datasets) or a path. [default: the study's]")
    ] = None,
    sets: Sets = None,
    run_dir: RunDir = None,
    workers: Workers = None,
    threads: Threads = None,
    precision: Precision = "auto",
    compile_: Compile = "auto",
    checkpoint_every: CheckpointEvery = None,
    dry_run: DryRun = False,
    as_json: AsJson = False,
) -> int:
    """Run a study: train, evaluate, and write a report. Run it again to continue where it stopped.

    Keys of --set are those of the study file: l2-sweep.replicates=40, cnn.recipe.epochs=3, seed=7.
    """
    from inklab.study.load import read_study
    from inklab.study.resources import ExecutionOptions

    options = ExecutionOptions(workers, threads, precision, compile_, checkpoint_every)
    overrides = sets or []
    if data is not None:  # quoted: a directory called 2024 is a name, not a number
        overrides = [f"data.dataset={json.dumps(data, ensure_ascii=False)}", *overrides]
    return _run_study(
        read_study(study, profile=profile, overrides=overrides),
        options,
        run_dir=run_dir,
        command=_command_line("run", study, ("--profile", profile), ("--data", data), sets=sets),
        dry_run=dry_run,
        as_json=as_json,
    )


@app.command()
def resume(
    run: RunArg = "latest",
    workers: Workers = None,
    checkpoint_every: CheckpointEvery = None,
    as_json: AsJson = False,
) -> int:
    """Continue a run: compute what is missing, unfinished trainings from their last checkpoint."""
    from inklab.study.load import LoadedSpec
    from inklab.study.resources import ExecutionOptions
    from inklab.study.run_directory import RunDirectory
    from inklab.study.spec import SavedStudy

    path = find_run(run)
    try:
        saved = SavedStudy.read(path / "study.json")
    except FileNotFoundError:
        raise RunError(
            f"'{path}' has no study.json; run the command again that began the run", key=run
        ) from None
    return _run_study(
        LoadedSpec(saved.study, saved.profile),
        ExecutionOptions(workers=workers, checkpoint_every=checkpoint_every),
        run_dir=path,
        command=RunDirectory(path).plan().command,
        as_json=as_json,
    )


@app.command()
def train(
    network: Annotated[
        str | None,
        typer.Argument(
            metavar="NETWORK",
            help="A network (inklab list networks) or my_net.py:Net. [default: that of the recipe]",
        ),
    ] = None,
    data: Annotated[str, typer.Option(help="A dataset (inklab list datasets) or a path.")] = "default",
    replicates: Annotated[int, typer.Option(min=1, help="Trainings with different seeds.")] = 1,
    recipe: Annotated[
        str | None,
        typer.Option(
            help="A recipe (inklab list recipes) or a TOML file. [default: sgd; of a denoiser, denoise]"
        ),
    ] = None,
    sets: Sets = None,
    run_dir: RunDir = None,
    workers: Workers = None,
    threads: Threads = None,
    precision: Precision = "auto",
    compile_: Compile = "auto",
    checkpoint_every: CheckpointEvery = None,
    dry_run: DryRun = False,
    as_json: AsJson = False,
) -> int:
    """Train one network and write its trained model.

    Keys of --set are: network.hidden=[500,300], recipe.epochs=20, recipe.learning_rate=0.05.
    """
    from inklab.study.load import LoadedSpec, parse_study
    from inklab.study.resources import ExecutionOptions

    options = ExecutionOptions(workers, threads, precision, compile_, checkpoint_every)
    table = _single_network_study(network, recipe, data, replicates, sets or [])
    name = str(table["name"])
    flags = (("--data", data), ("--recipe", recipe), ("--replicates", str(replicates)))
    return _run_study(
        LoadedSpec(parse_study(table, name), "plain"),
        options,
        run_dir=run_dir,
        command=_command_line("train", network, *flags, sets=sets),
        dry_run=dry_run,
        as_json=as_json,
        print_model_dir=True,
    )


def _single_network_study(
    network: str | None, recipe: str | None, data: str, replicates: int, sets: list[str]
) -> "dict[str, object]":
    """The tables of the study with one experiment that `inklab train` runs."""
    from inklab.networks.network import networks
    from inklab.study.load import parse_override, set_dotted
    from inklab.training.recipe_files import read_recipe_file

    if network is None and (recipe is None or not read_recipe_file(recipe).network):
        problem = f"recipe '{recipe}' names no network" if recipe else "no network is given"
        raise ConfigError(
            f"{problem}; write inklab train NETWORK (see inklab list networks), or a --recipe with one",
            key="NETWORK",
        )
    name = (network or Path(str(recipe)).stem).rpartition(":")[2].lower().replace(".", "-")
    is_denoiser = network is not None and network in networks and networks[network].task == "denoising"
    base = recipe or ("denoise" if is_denoiser else "sgd")
    experiment: dict[str, object] = {"title": name, "recipe": {"base": base}, "replicates": replicates}
    if network is not None:
        experiment["network"] = {"name": network}
    table: dict[str, object] = {
        "name": name,
        "title": f"Training {name}",
        "data": {"dataset": data},
        "experiments": {name: experiment},
    }
    for override in sets:
        key, value = parse_override(override)
        full_key = f"{name}.{key}" if key.split(".")[0] in EXPERIMENT_KEYS else key
        set_dotted(table, full_key, value, f"--set {override}")
    return table


def _command_line(verb: str, name: str | None, *flags: tuple[str, str | None], sets: list[str] | None) -> str:
    """What to type to have the same again, wherever the run directory is."""
    flags = (*flags, *(("--set", override) for override in sets or []))
    words = [word for flag, value in flags if value is not None for word in (flag, value)]
    return shlex.join(["inklab", verb, *([name] if name else []), *words])


def _run_study(
    loaded: "LoadedSpec",
    options: "ExecutionOptions",
    *,
    command: str,
    run_dir: Path | None,
    as_json: bool,
    dry_run: bool = False,
    print_model_dir: bool = False,
) -> int:
    """Run a study, write its report and print its results; `command` is what to type to have this again."""
    from inklab.study.load import open_study
    from inklab.study.run_directory import RunDirectory
    from inklab.study.runner import StudyRunner

    study = open_study(loaded)
    if study.data.note:
        info(f"NOTE: {study.data.note}")
    if study.spec != loaded.spec:
        info(
            f"{study.data.train + study.data.validation:,} training images are few: networks train for "
            "more epochs ([small_data] in the study). Validation images are taken from them."
        )
    path = run_dir or runs_root() / study.spec.name / study.id
    runner = StudyRunner(study, RunDirectory(path), options, command=command)
    if dry_run:
        plan, cost = runner.dry_run()
        _print_plan(plan, cost, path, as_json)
        return EXIT_OK
    runner.check()
    info(f"study {study.spec.name}, profile {study.profile}, data {study.data.dataset}: {path}")
    results = _run_with_progress(runner, path)

    from inklab.cli.show_commands import print_results
    from inklab.report.page import write_report
    from inklab.run import Run

    run, is_done = Run(path, study.dataset), _all_done(results)
    page = write_report(run)
    if as_json:
        echo_json(results.to_json())
    else:
        print_results(results)
        if print_model_dir and is_done:
            echo(f"\nmodel: {run.model_dir(run.plan.training[0].name)}")
        echo(f"\nreport: {page}")
    return EXIT_OK if is_done else EXIT_FAILED_TRIALS


def _run_with_progress(runner: "StudyRunner", path: Path) -> "Results":
    from inklab.progress import progress_display
    from inklab.study.monitor import StatusFile

    try:
        with progress_display() as display:
            runner.on_event = StatusFile(runner.run_directory, display)
            return runner.run()
    finally:  # also after an interruption: inklab resume continues the latest run
        is_below_root = runs_root().resolve() in path.resolve().parents
        if is_below_root and (path / "plan.json").is_file():
            _link_latest(path)


def _link_latest(path: Path) -> None:
    """Let runs/latest point at a run, if the file system has links."""
    link = runs_root() / "latest"
    draft = link.with_name(f".latest-{os.getpid()}")
    try:
        draft.symlink_to(os.path.relpath(path.resolve(), link.parent.resolve()))
        os.replace(draft, link)
    except OSError:
        info(f"'{link}' could not be made a link to this run")


def _all_done(results: "Results") -> bool:
    from inklab.records.outcomes import TrialState
    from inklab.records.results import DataResults

    entries = [entry for entry in results.experiments.values() if not isinstance(entry, DataResults)]
    return all(entry.outcomes.keys() <= {TrialState.DONE} for entry in entries)


def _print_plan(plan: "Plan", cost: "Cost", path: Path, as_json: bool) -> None:
    from inklab.format import format_duration
    from inklab.progress import describe_cost
    from inklab.study.resources import describe_execution

    if as_json:
        echo_json({"run": str(path), "plan": plan.to_json(), "cost": cost.to_json()})
        return
    echo(f"study {plan.study}, profile {plan.profile}, seed {plan.seed}: {path}")
    data = plan.data
    echo(
        f"data {data.dataset}: {data.train:,} training, {data.validation:,} validation, "
        f"{data.test:,} test images"
    )
    echo("execution:\n" + "\n".join(f"  {line}" for line in describe_execution(plan.execution)) + "\n")
    rows = []
    for experiment in plan.experiments:
        trials = set(plan.trials_of(experiment.name))
        groups = [group for group in plan.groups if trials & set(group.trials)]
        n_evaluations = len(plan.evaluations_of(experiment.name))
        row = (experiment.name, experiment.kind, len(trials), _describe_groups(groups), n_evaluations)
        rows.append([str(value or "") for value in row])
    echo_table(["experiment", "kind", "trials", "groups", "evaluations"], rows, right=(2, 4))
    echo(f"\nstill to do: {describe_cost(cost)}")
    echo(
        f"about {format_duration(cost.seconds)} (within a factor of two), {cost.bytes / 1e6:.0f} MB on disk; "
        "nothing was written"
    )


def _describe_groups(groups: "list[GroupPlan]") -> str:
    """How trials are grouped; equal groups are named once, with how many there are."""
    texts = [
        f"{len(group.trials)} {'stacked' if group.stacked else 'in turn'}"
        + (", compiled" if group.compiled else "")
        for group in groups
    ]
    counts = [(text, len(list(equal))) for text, equal in groupby(texts)]
    return "; ".join(f"{count} x {text}" if count > 1 else text for text, count in counts)

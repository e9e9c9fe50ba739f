"""Commands that compute: run, resume, train."""

import json
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from inklab.cli.console import AsJson, RunArg, Sets, app, echo, echo_json, echo_table, info
from inklab.errors import EXIT_FAILED_TRIALS, EXIT_OK, ConfigError

if TYPE_CHECKING:
    from inklab.api import PreparedRun
    from inklab.records.plan import GroupPlan, Plan
    from inklab.records.results import Results
    from inklab.study.resources import Cost, ExecutionOptions

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
Device = Annotated[
    str,
    typer.Option(
        "--device",
        metavar="auto|cpu|cuda[:I]|mps",
        help="What networks are trained on; auto: a GPU that CUDA lists, after a check.",
    ),
]
Executor = Annotated[
    str,
    typer.Option(
        "--executor",
        metavar="local|ray|slurm",
        help="Where jobs run: this machine's processes, a Ray cluster, or SLURM.",
    ),
]
RayAddress = Annotated[
    str | None,
    typer.Option(
        "--ray-address",
        metavar="HOST:PORT",
        help="The Ray cluster; auto: the one that runs here. [default: a Ray of this run's own]",
    ),
]
Slurm = Annotated[
    list[str] | None,
    typer.Option(
        "--slurm",
        metavar="KEY=VALUE",
        help="A setting of SLURM for each worker: partition, time, mem, account, ...; repeatable.",
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
AcceptDataProblems = Annotated[
    bool,
    typer.Option(
        "--accept-data-problems",
        help="Go on although the images have a problem that makes training pointless.",
    ),
]
RunDir = Annotated[
    Path | None,
    typer.Option("--run-dir", help="The run directory. [default: runs/<name of the study>/<id>]"),
]
TestOn = Annotated[
    list[str] | None,
    typer.Option(
        "--test-on",
        metavar="DATASET",
        help="Test classifiers on its test set, too, such as qmnist; repeatable.",
    ),
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
    test_on: TestOn = None,
    sets: Sets = None,
    run_dir: RunDir = None,
    workers: Workers = None,
    threads: Threads = None,
    precision: Precision = "auto",
    compile_: Compile = "auto",
    device: Device = "auto",
    executor: Executor = "local",
    ray_address: RayAddress = None,
    slurm: Slurm = None,
    checkpoint_every: CheckpointEvery = None,
    accept_data_problems: AcceptDataProblems = False,
    dry_run: DryRun = False,
    as_json: AsJson = False,
) -> int:
    """Run a study: train, evaluate, and write a report. Run it again to continue where it stopped.

    Keys of --set are those of the study file: l2-sweep.replicates=40, cnn.recipe.epochs=3, seed=7.
    """
    from inklab.api import prepare_run

    options = _options(
        workers, threads, precision, compile_, checkpoint_every, accept_data_problems, device=device,
        executor=executor, ray_address=ray_address, slurm=slurm,
    )  # fmt: skip
    prepared = prepare_run(
        study,
        profile=profile,
        data=data,
        overrides=_overrides(sets, test_on),
        run_dir=run_dir,
        options=options,
    )
    return _execute(prepared, dry_run=dry_run, as_json=as_json)


@app.command()
def resume(
    run: RunArg = "latest",
    workers: Workers = None,
    executor: Executor = "local",
    ray_address: RayAddress = None,
    slurm: Slurm = None,
    checkpoint_every: CheckpointEvery = None,
    as_json: AsJson = False,
) -> int:
    """Continue a run: compute what is missing, unfinished trainings from their last checkpoint."""
    from inklab.api import prepare_resume
    from inklab.study.run_directory import find_run

    options = _options(
        workers=workers,
        checkpoint_every=checkpoint_every,
        executor=executor,
        ray_address=ray_address,
        slurm=slurm,
    )
    return _execute(prepare_resume(find_run(run), options), as_json=as_json)


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
    test_on: TestOn = None,
    sets: Sets = None,
    run_dir: RunDir = None,
    workers: Workers = None,
    threads: Threads = None,
    precision: Precision = "auto",
    compile_: Compile = "auto",
    device: Device = "auto",
    executor: Executor = "local",
    ray_address: RayAddress = None,
    slurm: Slurm = None,
    checkpoint_every: CheckpointEvery = None,
    accept_data_problems: AcceptDataProblems = False,
    dry_run: DryRun = False,
    as_json: AsJson = False,
) -> int:
    """Train one network and write its trained model.

    Keys of --set are: network.hidden=[500,300], recipe.epochs=20, recipe.learning_rate=0.05.
    """
    from inklab.api import SingleTraining, prepare_training

    options = _options(
        workers, threads, precision, compile_, checkpoint_every, accept_data_problems, device=device,
        executor=executor, ray_address=ray_address, slurm=slurm,
    )  # fmt: skip
    training = SingleTraining(network, recipe, replicates)
    prepared = prepare_training(
        training, data, overrides=_overrides(sets, test_on), run_dir=run_dir, options=options
    )
    return _execute(prepared, dry_run=dry_run, as_json=as_json, print_model_dir=True)


def _overrides(sets: list[str] | None, test_on: list[str] | None) -> list[str]:
    return [*([f"data.test_on={json.dumps(test_on)}"] if test_on else []), *(sets or ())]


def _options(
    workers: int | None = None,
    threads: int | None = None,
    precision: Literal["auto", "fp32", "bf16"] = "auto",
    compile_: Literal["auto", "yes", "no"] = "auto",
    checkpoint_every: float | None = None,
    accept_data_problems: bool = False,
    device: str = "auto",
    executor: str = "local",
    ray_address: str | None = None,
    slurm: list[str] | None = None,
) -> "ExecutionOptions":
    from inklab.study.resources import ExecutionOptions

    return ExecutionOptions(
        workers, threads, precision, compile_, checkpoint_every, accept_data_problems, device,
        executor, ray_address, tuple(map(_slurm_setting, slurm or ())),
    )  # fmt: skip


def _slurm_setting(text: str) -> tuple[str, str]:
    key, separator, value = text.partition("=")
    if not separator or not key:
        raise ConfigError(f"--slurm {text}: write it as KEY=VALUE, such as partition=short")
    return key, value


def _execute(
    prepared: "PreparedRun", *, dry_run: bool = False, as_json: bool = False, print_model_dir: bool = False
) -> int:
    """Run what is prepared, write its report and print its results."""
    if dry_run:
        for note in prepared.notes:
            info(note)
        plan, cost = prepared.dry_run()
        _print_plan(plan, cost, prepared.path, as_json)
        return EXIT_OK
    run = prepared.run()

    from inklab.cli.show_commands import print_results
    from inklab.report.page import write_report

    page, results = write_report(run), run.results
    if as_json:
        echo_json(results.to_json())
    else:
        print_results(results)
        if print_model_dir and _all_done(results):
            echo(f"\nmodel: {run.model_dir(run.plan.training[0].name)}")
        echo(f"\nreport: {page}")
    return EXIT_OK if _all_done(results) else EXIT_FAILED_TRIALS


def _all_done(results: "Results") -> bool:
    from inklab.records.outcomes import TrialState
    from inklab.records.results import DataResults

    entries = [entry for entry in results.experiments.values() if not isinstance(entry, DataResults)]
    return all(entry.outcomes.keys() <= {TrialState.DONE} for entry in entries)


def _print_plan(plan: "Plan", cost: "Cost", path: Path, as_json: bool) -> None:
    from inklab.format import format_duration, format_study
    from inklab.progress import describe_cost
    from inklab.study.resources import describe_execution

    if as_json:
        echo_json({"run": str(path), "plan": plan.to_json(), "cost": cost.to_json()})
        return
    echo(f"{format_study(plan.study, plan.profile)}, seed {plan.seed}: {path}")
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

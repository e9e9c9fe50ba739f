"""Commands that read: status, show, report, compare, list, data, doctor."""

import time
from importlib import import_module
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
    info,
)
from inklab.errors import EXIT_OK, EXIT_USAGE, ConfigError, DataError

if TYPE_CHECKING:
    from inklab.records.outcomes import LayerRow
    from inklab.records.record import Shape
    from inklab.records.results import Results
    from inklab.records.status import Progress

FETCH_TIMEOUT = 600
"""Seconds; who asks for a download is more patient than a run that can continue with other images."""

PACKAGES = "torch numpy scipy scikit-learn pydantic matplotlib safetensors pillow filelock pooch".split()
EXTRAS = {
    "onnxruntime": "inklab[onnx]",
    "fastapi": "inklab[serve]",
    "pyarrow": "inklab[parquet]",
    "ray": "inklab[ray]",
    "submitit": "inklab[slurm]",
}
"""Optional packages, and the extra that installs each."""

REGISTRIES = {
    "networks": ("inklab.networks.network", "{0.description}", "or my_net.py:Net, any nn.Module"),
    "corruptions": (
        "inklab.corruptions.corruption",
        "{0.description} (strength 0 to {0.max_strength:g}: {0.unit})",
        "or my_noise.py:name, a function of your own",
    ),
    "filters": ("inklab.corruptions.filters", "{0.description}", ""),
    "datasets": (
        "inklab.data.sources",
        "{0.description}",
        "or a path: a directory of images per class, a .csv, .npz or IDX file, or my_data.py:function",
    ),
    "objectives": ("inklab.training.objectives", "{0.description} ({0.task})", ""),
    "samplers": ("inklab.evaluation.samplers", "{0.description}", ""),
    "executors": ("inklab.study.executor", "{0.summary}", "or, in Python, a factory of your own"),
}
"""Module of each registry, how `inklab list` describes an entry, and what may replace a name."""

Over = Literal["auto", "replicates", "images"]

list_app = typer.Typer(help="List what is available: networks, recipes, corruptions, datasets and more.")
app.add_typer(list_app, name="list")

data_app = typer.Typer(help="Fetch and check datasets.")
app.add_typer(data_app, name="data")

DatasetArg = Annotated[
    str, typer.Argument(metavar="DATASET", help="A dataset (inklab list datasets) or a path.")
]

# ---------------------------------------------------------------- runs


@app.command()
def status(run: RunArg = "latest", as_json: AsJson = False) -> None:
    """Show how far a run is: trials and evaluations by state."""
    from inklab.format import format_study, pluralize
    from inklab.study.monitor import RunMonitor
    from inklab.study.run_directory import RunDirectory, find_run

    run_directory = RunDirectory.existing(find_run(run))
    plan, progress = run_directory.plan(), RunMonitor(run_directory, max_curves=0).poll()
    orphaned = run_directory.orphaned(plan)
    if as_json:
        about = {"run": str(run_directory.path), "study": plan.study, "profile": plan.profile}
        echo_json({**about, **progress.to_json(), "orphaned": orphaned})
        return
    study = f"{format_study(plan.study, plan.profile)}, data {plan.data.dataset}, seed {plan.seed}"
    echo(f"{run_directory.path}\n{study}\n")
    _print_states(progress)
    if orphaned:
        echo(
            f"\n{pluralize(orphaned, 'outcome')} of other settings, data or versions of inklab "
            "are stored here, too; no number includes them"
        )
    _print_running(progress)


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
def show(run: RunArg = "latest", as_json: AsJson = False) -> None:
    """Show the results of a run; --json prints results.json (docs/results.schema.json)."""
    from inklab.runs import Run
    from inklab.study.run_directory import find_run

    results = Run(find_run(run)).results
    if as_json:
        echo_json(results.to_json())
    else:
        print_results(results)


@app.command()
def report(
    run: RunArg = "latest",
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="Directory to write to. [default: the run directory]"),
    ] = None,
) -> None:
    """Compute a run's results again, draw its figures and write its report.html."""
    from inklab.runs import Run
    from inklab.study.run_directory import find_run

    echo(str(Run(find_run(run)).report(output)))


@app.command()
def compare(
    run: RunArg,
    a: Annotated[
        str, typer.Argument(metavar="A", help="An experiment, or experiment:key=value for a setting.")
    ],
    b: Annotated[
        str | None,
        typer.Argument(metavar="B", help="What A is compared with. [default: A of the run --with]"),
    ] = None,
    other: Annotated[
        str | None, typer.Option("--with", metavar="RUN", help="The run that has B, if it is another one.")
    ] = None,
    metric: Annotated[
        str | None,
        typer.Option(help="Compare on this metric, such as test_macro_f1. [default: the main ones]"),
    ] = None,
    over: Annotated[
        Over,
        typer.Option(
            help="Compare trainings (replicates), or one trained network of each image by image (images). "
            "auto: images only where there are no two replicates to compare."
        ),
    ] = "auto",
    as_json: AsJson = False,
) -> None:
    """Compare two settings, of one run or of two: in pairs of replicates where they pair."""
    from inklab.runs import Run
    from inklab.study.run_directory import find_run

    loaded = Run(find_run(run))
    with_run = None if other is None else Run(find_run(other))
    comparison = loaded.compare(a, b, with_run, metric=metric, over=over)
    if as_json:
        echo_json({**comparison.to_json(), "sentence": comparison.sentence})
    else:
        echo(comparison.sentence)


def print_results(results: "Results") -> None:
    """Print the metrics of a run as a table, and its findings."""
    from inklab.format import format_percent
    from inklab.metrics import SHOW_METRICS, get_metric, with_second_tests

    rows = [
        [
            f"{name} {setting.label}".strip(),
            get_metric(metric).label,
            estimate.format(metric, images=results.data.images_of(metric)),
        ]
        for name, experiment in results.training.items()
        for setting in experiment.settings
        for metric in with_second_tests(
            (*SHOW_METRICS, *(f"test_{own.key}" for own in experiment.own_metrics)), setting.metrics
        )
        if (estimate := setting.metrics.get(metric)) is not None and estimate.n
    ]
    if any(entry.task == "classification" for entry in results.training.values()) and rows:
        label, share = results.data.largest_class
        rows.append(["test images", f"share of the largest class ({label})", format_percent(share, 2)])
    if rows:
        echo_table(["experiment", "metric", "estimate"], rows)
    for finding in results.findings:
        echo(f"\n- {finding}")


# ---------------------------------------------------------------- list


@list_app.command("networks")
def list_networks(
    name: Annotated[
        str | None, typer.Argument(metavar="NAME", help="Show the layers of this network.")
    ] = None,
    sets: Sets = None,
    shape: Annotated[str, typer.Option(help="Channels, height, width of an image.")] = "1,28,28",
    classes: Annotated[int, typer.Option(min=2, help="Number of classes.")] = 10,
    as_json: AsJson = False,
) -> None:
    """List networks; with a NAME, show its layers."""
    if name is None:
        _print_registry("networks", as_json)
        return
    rows = _layers(name, sets or [], _parse_shape(shape), classes)
    if as_json:
        echo_json([row.to_json() for row in rows])
    else:
        _print_layers(rows)


def _layers(name: str, sets: list[str], shape: "Shape", n_classes: int) -> "list[LayerRow]":
    from inklab.networks.network import build_network, check_network
    from inklab.records.components import NetworkConfig
    from inklab.seeding import Seed
    from inklab.study.load import parse_override

    network = NetworkConfig.parse({**dict(parse_override(override) for override in sets), "name": name})
    check_network(network)  # before torch is imported
    from inklab.networks.layer_table import layer_table

    return layer_table(build_network(network, shape, n_classes, Seed(0)), shape)


def _print_layers(rows: "list[LayerRow]") -> None:
    cells = [
        [row.name, row.type, row.activation or "", "x".join(map(str, row.output_shape))]
        + [f"{row.parameters:,}", "" if row.macs is None else f"{row.macs:,}"]
        for row in rows
    ]
    parameters, macs = sum(row.parameters for row in rows), sum(row.macs or 0 for row in rows)
    cells.append(["all", "", "", "", f"{parameters:,}", f"{macs:,}"])
    columns = ["layer", "type", "activation", "output", "parameters", "multiply-adds"]
    echo_table(columns, cells, right=(4, 5))


def _parse_shape(text: str) -> "Shape":
    sides = [int(part) if part.strip().isdecimal() else 0 for part in text.split(",")]
    if len(sides) != 3 or 0 in sides:
        raise ConfigError(f"--shape is '{text}'; write channels,height,width such as 1,28,28", key="--shape")
    return sides[0], sides[1], sides[2]


@list_app.command("recipes")
def list_recipes(as_json: AsJson = False) -> None:
    """List recipes; --json prints them in full."""
    from inklab.format import format_value
    from inklab.training.recipe_files import read_recipe_file, recipe_names

    files = {name: read_recipe_file(name) for name in recipe_names()}
    if as_json:
        echo_json({name: file.to_json() for name, file in files.items()})
        return
    descriptions = {}
    for name, file in files.items():
        network = f"network {file.network.name}, " if file.network else ""
        descriptions[name] = network + ", ".join(
            f"{key} {format_value(value)}" for key, value in file.fields.items()
        )
    _print_list(descriptions, "or a TOML file of your own", as_json)


@list_app.command("metrics")
def list_metrics(as_json: AsJson = False) -> None:
    """List metrics: what each is, its unit, and which direction is better."""
    from inklab.metrics import METRICS

    directions = {True: "higher is better", False: "lower is better", None: "no better direction"}
    descriptions = {
        name: ", ".join(filter(None, (metric.label, metric.unit, directions[metric.higher_is_better])))
        for name, metric in METRICS.items()
    }
    _print_list(descriptions, "", as_json)


@list_app.command("studies")
def list_studies(as_json: AsJson = False) -> None:
    """List built-in studies."""
    from inklab.study.load import builtin_studies, read_study

    descriptions = {name: read_study(name).spec.title for name in builtin_studies()}
    _print_list(descriptions, "or a TOML file of your own", as_json)


def _print_registry(kind: str, as_json: bool) -> None:
    module, template, alternative = REGISTRIES[kind]
    entries = getattr(import_module(module), kind).all()
    descriptions = {name: template.format(entry) for name, entry in entries.items()}
    _print_list(descriptions, alternative, as_json)


def _add_listing(kind: str) -> None:
    @list_app.command(kind, help=f"List {kind}.")
    def list_kind(as_json: AsJson = False) -> None:
        _print_registry(kind, as_json)


for registry in REGISTRIES:
    if registry != "networks":  # which has more options
        _add_listing(registry)


def _print_list(descriptions: dict[str, str], alternative: str, as_json: bool) -> None:
    if as_json:
        echo_json(descriptions)
        return
    width = max(map(len, descriptions), default=0)
    for name, description in descriptions.items():
        echo(f"{name:<{width}}  {description}")
    if alternative:
        echo(f"{'':<{width}}  {alternative}")


# ---------------------------------------------------------------- data


@data_app.command("fetch")
def data_fetch(dataset: DatasetArg) -> None:
    """Download a dataset into the cache if it is one that is downloaded, and check it."""
    from inklab.data.published import download_time
    from inklab.data.sources import load_dataset

    with download_time(FETCH_TIMEOUT):
        loaded = load_dataset(dataset)
    n_train, n_test = len(loaded.train), len(loaded.test)
    echo(f"{dataset}: {n_train:,} training and {n_test:,} test images, SHA-256 {loaded.sha256}")


@data_app.command("check")
def data_check(dataset: DatasetArg, as_json: AsJson = False) -> None:
    """Check a dataset: class counts, duplicates within and between sets, unusual images."""
    from inklab.data.quality import check_data
    from inklab.data.sources import load_dataset
    from inklab.format import pluralize

    loaded = load_dataset(dataset)
    report = check_data(loaded)
    if as_json:
        echo_json(report.to_json())
        return
    channels, height, width = report.shape
    size = f"{height} x {width} pixels, {pluralize(channels, 'channel')}"
    echo(f"{report.dataset}: {size}, SHA-256 {report.sha256[:12]}...")
    echo(f"pictures given to its models: {loaded.preprocessing.summary}\n")
    columns = [("class", *report.labels, "all")]
    columns += [(name, *(f"{n:,}" for n in (*of, sum(of)))) for name, of in report.counts.items()]
    header, *rows = map(list, zip(*columns, strict=True))
    echo_table(header, rows, right=tuple(range(1, len(columns))))
    echo()
    notes = (*report.problems, *report.notes)
    for note in notes or ("no issues: no duplicates, no overlap of training and test set, balanced",):
        echo(f"- {note}")
    if loaded.note:
        info(f"NOTE: {loaded.note}")


# ---------------------------------------------------------------- doctor


@app.command()
def doctor(
    run: Annotated[
        str | None,
        typer.Argument(metavar="RUN", help="Tell the diagnoses of this run. [default: check inklab itself]"),
    ] = None,
    as_json: AsJson = False,
) -> int:
    """Check this installation, and show what inklab will use; or tell the diagnoses of a run's trainings."""
    if run is not None:
        return _diagnose_run(run, as_json)
    from inklab.data.sources import data_dir, is_offline
    from inklab.format import pluralize
    from inklab.hardware import cores
    from inklab.io.files import cache_dir
    from inklab.records.outcomes import Environment
    from inklab.study.run_directory import runs_root

    environment = Environment.current(threads=1)
    packages = {name: _version(name) or "missing" for name in PACKAGES}
    extras = {
        name: _version(name) or f"not installed: pip install '{extra}'" for name, extra in EXTRAS.items()
    }
    checks = {
        "inklab": environment.inklab,
        "python": environment.python,
        "platform": environment.platform,
        "processor": f"{environment.cpu}, {pluralize(cores(), 'core')}",
        **_execution_choices(),
        **packages,
        **extras,
        "arithmetic": _check_arithmetic(),
        "data directory": str(data_dir() or "INKLAB_DATA_DIR is not set"),
        "cache": str(cache_dir("data").parent),
        "mnist": _check_mnist(),
        "runs": str(runs_root().resolve()),
        "network access": "off (INKLAB_OFFLINE)" if is_offline() else "for missing datasets only",
    }
    is_ok = "missing" not in packages.values() and checks["arithmetic"] == "correct"
    if as_json:
        echo_json({"ok": is_ok, **checks})
    else:
        echo_table(["check", "result"], [[key, value] for key, value in checks.items()])
        echo("\n" + ("everything is fine" if is_ok else "something is wrong, see above"))
    return EXIT_OK if is_ok else EXIT_USAGE


def _diagnose_run(name: str, as_json: bool) -> int:
    from inklab.results.run_diagnoses import diagnose_run
    from inklab.runs import Run
    from inklab.study.run_directory import find_run

    diagnoses = diagnose_run(Run(find_run(name)).results)
    if as_json:
        echo_json([{"where": row.where, "of": row.of, **row.diagnosis.to_json()} for row in diagnoses])
        return EXIT_OK
    for where, diagnosis, of in diagnoses:
        echo(f"{where}: {diagnosis.name}, in {diagnosis.trials:,} of {of:,} trials")
        echo(f"  {diagnosis.message}")
        echo(f"  What to do: {diagnosis.advice}\n")
    if not diagnoses:
        echo("no diagnoses: nothing points to a fault of the data, the networks or the training")
    return EXIT_OK


def _version(package: str) -> str | None:
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _execution_choices() -> dict[str, str]:
    """How trainings would be run, as far as the speed of this machine is known (docs/engine.md)."""
    from inklab.study.resources import (
        ExecutionOptions,
        choose_execution,
        default_profile,
        load_cached_profile,
    )

    profile = load_cached_profile()
    execution = choose_execution(profile or default_profile(), ExecutionOptions())
    reasons = execution.reasons
    note = "" if profile else "; the first run measures the speed of this machine and decides better"
    texts = {
        name: f"{getattr(execution, name)} ({reasons[name]})" for name in ("precision", "threads", "workers")
    }
    return {"device": execution.device.description, **texts, "compile": reasons["compile"] + note}


def _check_arithmetic() -> str:
    """Multiply two matrices in torch and compare with NumPy: a broken BLAS shows at once."""
    import numpy as np
    import torch

    a, b = np.random.default_rng(0).normal(size=(2, 64, 64)).astype(np.float32)
    is_equal = np.allclose(torch.from_numpy(a) @ torch.from_numpy(b), a @ b, atol=1e-4)
    return "correct" if is_equal else "WRONG: torch and NumPy disagree on a matrix product"


def _check_mnist() -> str:
    from inklab.data.mnist import MNIST
    from inklab.data.published import download_time

    try:
        with download_time(0.0):  # a check must not download
            loaded = MNIST.load()
    except DataError:
        return "not available; inklab data fetch mnist downloads it, until then runs use mnist-5k"
    return f"available, SHA-256 {loaded.sha256[:12]}..."

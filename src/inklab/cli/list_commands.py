"""Commands that list what is registered, and those about datasets: list, data."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated

import typer

from inklab.cli.console import AsJson, Sets, app, echo, echo_json, echo_table, info
from inklab.errors import EXIT_OK, ConfigError

if TYPE_CHECKING:
    from inklab.records.outcomes import LayerRow
    from inklab.records.record import Shape

FETCH_TIMEOUT = 600
"""Seconds; who asks for a download is more patient than a run that can continue with other images."""

list_app = typer.Typer(help="List what is available: networks, recipes, corruptions, datasets and more.")
app.add_typer(list_app, name="list")

data_app = typer.Typer(help="Fetch and check datasets.")
app.add_typer(data_app, name="data")

DatasetArg = Annotated[
    str, typer.Argument(metavar="DATASET", help="A dataset (inklab list datasets) or a path.")
]


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
) -> int:
    """List networks; with a NAME, show its layers."""
    from inklab.networks.network import networks

    if name is None:
        descriptions = {key: network.description for key, network in networks.all().items()}
        return _print_list(descriptions, "or my_net.py:Net, any nn.Module", as_json)
    rows = _layers(name, sets or [], _parse_shape(shape), classes)
    if as_json:
        echo_json([row.to_json() for row in rows])
    else:
        _print_layers(rows)
    return EXIT_OK


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
    parts = text.split(",")
    if len(parts) != 3 or not all(part.strip().isdigit() and int(part) > 0 for part in parts):
        raise ConfigError(f"--shape is '{text}'; write channels,height,width such as 1,28,28", key="--shape")
    channels, height, width = (int(part) for part in parts)
    return channels, height, width


@list_app.command("recipes")
def list_recipes(as_json: AsJson = False) -> int:
    """List recipes; --json prints them in full."""
    from inklab.format import format_value
    from inklab.training.recipe_files import read_recipe_file, recipe_names

    files = {name: read_recipe_file(name) for name in recipe_names()}
    if as_json:
        echo_json({name: file.to_json() for name, file in files.items()})
        return EXIT_OK
    descriptions = {}
    for name, file in files.items():
        network = f"network {file.network.name}, " if file.network else ""
        descriptions[name] = network + ", ".join(
            f"{key} {format_value(value)}" for key, value in file.fields.items()
        )
    return _print_list(descriptions, "or a TOML file of your own", as_json)


def _corruptions() -> dict[str, str]:
    from inklab.corruptions.corruption import corruptions

    return {
        name: f"{entry.description} (strength 0 to {entry.max_strength:g}: {entry.unit})"
        for name, entry in corruptions.all().items()
    }


def _filters() -> dict[str, str]:
    from inklab.corruptions.filters import filters

    return {name: entry.description for name, entry in filters.all().items()}


def _datasets() -> dict[str, str]:
    from inklab.data.sources import datasets

    return {name: entry.description for name, entry in datasets.all().items()}


def _objectives() -> dict[str, str]:
    from inklab.training.objectives import objectives

    return {name: f"{entry.description} ({entry.task})" for name, entry in objectives.all().items()}


def _samplers() -> dict[str, str]:
    from inklab.evaluation.samplers import samplers

    return {name: entry.description for name, entry in samplers.all().items()}


def _metrics() -> dict[str, str]:
    from inklab.metrics import METRICS

    directions = {True: "higher is better", False: "lower is better", None: "no better direction"}
    return {
        name: ", ".join(
            part for part in (metric.label, metric.unit, directions[metric.higher_is_better]) if part
        )
        for name, metric in METRICS.items()
    }


def _studies() -> dict[str, str]:
    from inklab.study.load import builtin_studies, read_study

    return {name: read_study(name).spec.title for name in builtin_studies()}


def _add_listing(kind: str, describe: Callable[[], dict[str, str]], alternative: str) -> None:
    """Register `inklab list <kind>`.

    Args:
        kind: what is listed.
        describe: gives a description of each by name.
        alternative: what a user may write instead of a name.
    """

    @list_app.command(kind, help=f"List {kind}.")
    def list_kind(as_json: AsJson = False) -> int:
        return _print_list(describe(), alternative, as_json)


_add_listing("corruptions", _corruptions, "or my_noise.py:name, a function of your own")
_add_listing("filters", _filters, "")
_add_listing(
    "datasets",
    _datasets,
    "or a path: a directory of images per class, an .npz file, an IDX file, or my_data.py:function",
)
_add_listing("objectives", _objectives, "")
_add_listing("samplers", _samplers, "")
_add_listing("metrics", _metrics, "")
_add_listing("studies", _studies, "or a TOML file of your own")


def _print_list(descriptions: dict[str, str], alternative: str, as_json: bool) -> int:
    if as_json:
        echo_json(descriptions)
        return EXIT_OK
    width = max(map(len, descriptions), default=0)
    for name, description in descriptions.items():
        echo(f"{name:<{width}}  {description}")
    if alternative:
        echo(f"{'':<{width}}  {alternative}")
    return EXIT_OK


# ---------------------------------------------------------------- data


@data_app.command("fetch")
def data_fetch(dataset: DatasetArg) -> int:
    """Download a dataset into the cache if it is one that is downloaded, and check it."""
    from inklab.data.mnist import FASHION_MNIST, MNIST, load_published
    from inklab.data.sources import load_dataset

    published = {spec.name: spec for spec in (MNIST, FASHION_MNIST)}
    if dataset in published:
        loaded = load_published(published[dataset], timeout=FETCH_TIMEOUT)
    else:
        loaded = load_dataset(dataset)
    n_train, n_test = len(loaded.train), len(loaded.test)
    echo(f"{dataset}: {n_train:,} training and {n_test:,} test images, SHA-256 {loaded.sha256}")
    return EXIT_OK


@data_app.command("check")
def data_check(dataset: DatasetArg, as_json: AsJson = False) -> int:
    """Check a dataset: class counts, duplicates within and between sets, unusual images."""
    from inklab.data.quality import check_data
    from inklab.data.sources import load_dataset
    from inklab.format import pluralize

    loaded = load_dataset(dataset)
    report = check_data(loaded)
    if as_json:
        echo_json(report.to_json())
        return EXIT_OK
    channels, height, width = report.shape
    size = f"{height} x {width} pixels, {pluralize(channels, 'channel')}"
    echo(f"{report.dataset}: {size}, SHA-256 {report.sha256[:12]}...\n")
    sets = list(report.counts)
    rows = [
        [label, *(f"{report.counts[name][index]:,}" for name in sets)]
        for index, label in enumerate(report.labels)
    ]
    rows.append(["all", *(f"{sum(report.counts[name]):,}" for name in sets)])
    echo_table(["class", *sets], rows, right=tuple(range(1, len(sets) + 1)))
    echo()
    for note in report.notes or ("no issues: no duplicates, no overlap of training and test set, balanced",):
        echo(f"- {note}")
    if loaded.note:
        info(f"NOTE: {loaded.note}")
    return EXIT_OK

"""Commands that list what is registered: data, models, corruptions, recipes."""

from typing import Annotated, Any

import typer

from inklab.cli.app import AsJson, Sets, app, echo, echo_json, info, table
from inklab.errors import EXIT_OK

data_app = typer.Typer(help="Images: list, get and check sources.")
app.add_typer(data_app, name="data")

Source = Annotated[str, typer.Argument(metavar="SOURCE", help="A registered source or a path.")]


@data_app.command("list")
def data_list(as_json: AsJson = False) -> int:
    """Which sources there are."""
    from inklab.data.sources import sources

    found = {name: each.description for name, each in sources.all().items()}
    return _listed(
        found,
        as_json,
        "or a path: a folder of pictures per class, an .npz file, an IDX file, or my_data.py:function",
    )


@data_app.command("get")
def data_get(source: Source) -> int:
    """Download a source into the cache, if it is one that is downloaded, and check it."""
    from inklab.data.mnist import FASHION_MNIST, MNIST, load_published
    from inklab.data.sources import load

    # Somebody who asks for a download has more patience than a run that can go on with other images.
    published = {each.name: each for each in (MNIST, FASHION_MNIST)}
    dataset = load_published(published[source], patience=600) if source in published else load(source)
    echo(
        f"{source}: {len(dataset.train):,} training and {len(dataset.test):,} test images, sha256 "
        f"{dataset.sha256}"
    )
    return EXIT_OK


@data_app.command("check")
def data_check(source: Source, as_json: AsJson = False) -> int:
    """Counts, balance, duplicates within and between sets, odd images."""
    from inklab.data.quality import check_data
    from inklab.data.sources import load

    dataset = load(source)
    found = check_data(dataset)
    if as_json:
        echo_json(found.to_json())
        return EXIT_OK
    channels, height, width = found.shape
    echo(
        f"{found.source}: {height} x {width} pixels, {channels} channel{'s' if channels > 1 else ''}, "
        f"sha256 {found.sha256[:12]}...\n"
    )
    sets = list(found.counts)
    rows = [[name, *(f"{found.counts[part][k]:,}" for part in sets)] for k, name in enumerate(found.labels)]
    rows.append(["all", *(f"{sum(found.counts[part]):,}" for part in sets)])
    table(["class", *sets], rows, right=tuple(range(1, len(sets) + 1)))
    echo("")
    for remark in found.remarks or ("nothing odd was found: no duplicates, no leaks, no uneven classes",):
        echo(f"- {remark}")
    if dataset.note:
        info(f"NOTE: {dataset.note}")
    return EXIT_OK


@app.command("models")
def models_command(
    name: Annotated[str | None, typer.Argument(metavar="NAME", help="Show this model's layers.")] = None,
    sets: Sets = None,
    shape: Annotated[str, typer.Option(help="Channels, height, width.")] = "1,28,28",
    classes: Annotated[int, typer.Option(min=2, help="How many labels.")] = 10,
    as_json: AsJson = False,
) -> int:
    """Which models there are; with a NAME, its layer table."""
    from inklab.networks.network import models

    if name is None:
        return _listed(
            {key: each.about for key, each in models.all().items()},
            as_json,
            "or my_net.py:Net, any nn.Module",
        )
    return _layers(name, sets or [], _shape(shape), classes, as_json)


def _layers(name: str, sets: list[str], shape: tuple[int, int, int], classes: int, as_json: bool) -> int:
    from inklab.networks.network import build_net, check_model
    from inklab.seeding import Seed
    from inklab.study.load import parse_override

    settings: dict[str, Any] = {"name": name, **dict(parse_override(change) for change in sets)}
    check_model(settings)
    from inklab.networks.layer_table import layer_table

    rows = layer_table(build_net(settings, shape, classes, Seed(0)), shape)
    if as_json:
        echo_json([row.to_json() for row in rows])
        return EXIT_OK
    cells = [
        [
            r.layer,
            r.kind,
            r.activation or "",
            "x".join(map(str, r.output)),
            f"{r.parameters:,}",
            f"{r.multiply_adds:,}",
        ]
        for r in rows
    ]
    totals = [sum(row.parameters for row in rows), sum(row.multiply_adds for row in rows)]
    cells.append(["all", "", "", "", *(f"{total:,}" for total in totals)])
    table(["layer", "kind", "activation", "output", "parameters", "multiply-adds"], cells, right=(4, 5))
    return EXIT_OK


def _shape(text: str) -> tuple[int, int, int]:
    from inklab.errors import ConfigError

    parts = text.split(",")
    if len(parts) != 3 or not all(part.strip().isdigit() and int(part) > 0 for part in parts):
        raise ConfigError(f"--shape is '{text}'; write channels,height,width such as 1,28,28")
    channels, height, width = (int(part) for part in parts)
    return channels, height, width


@app.command("corruptions")
def corruptions_command(as_json: AsJson = False) -> int:
    """Which corruptions there are, and what their strength counts."""
    from inklab.corruptions.corruption import corruptions

    found = {
        name: f"{each.description} (strength 0 to {each.largest:g}: {each.unit})"
        for name, each in corruptions.all().items()
    }
    return _listed(found, as_json, "or my_noise.py:name")


@app.command("recipes")
def recipes_command(as_json: AsJson = False) -> int:
    """Which recipes there are."""
    from inklab.training.recipe import Recipe, read_recipe, recipe_names

    files = {name: read_recipe(name) for name in recipe_names()}
    if as_json:
        echo_json(
            {
                name: {
                    "version": file.version, **file.network,
                    "recipe": Recipe(**file.fields).model_dump(mode="json"),
                }
                for name, file in files.items()
            }
        )  # fmt: skip
        return EXIT_OK
    found = {
        name: ", ".join(f"{key} {_plain(value)}" for key, value in {**file.network, **file.fields}.items())
        for name, file in files.items()
    }
    return _listed(found, as_json, "or a TOML file of your own")


def _plain(value: object) -> str:
    if isinstance(value, dict):
        return " ".join(_plain(part) for part in value.values())
    return "-".join(map(str, value)) if isinstance(value, list) else str(value)


def _listed(found: dict[str, str], as_json: bool, more: str) -> int:
    if as_json:
        echo_json(found)
        return EXIT_OK
    width = max(map(len, found), default=0)
    for name, about in found.items():
        echo(f"{name:<{width}}  {about}")
    echo(f"{'':<{width}}  {more}")
    return EXIT_OK

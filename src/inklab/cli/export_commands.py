"""The command that writes ONNX: export."""

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from inklab.cli.app import AsJson, app, echo, echo_json, find_run, info
from inklab.errors import EXIT_OK, ConfigError, DataError

if TYPE_CHECKING:
    from inklab.export.onnx_export import ExportedModel
    from inklab.export.select import Selection


@app.command()
def export(
    bundle: Annotated[
        str,
        typer.Argument(
            metavar="BUNDLE", help="A bundle's or a trial's folder, or a run whose first classifier is taken."
        ),
    ],
    to: Annotated[
        Path, typer.Option("--to", metavar="FILE.onnx", help="Where to write; a card goes beside it.")
    ],
    chapter: Annotated[str | None, typer.Option(help="Of a run: which chapter's network.")] = None,
    pipeline: Annotated[
        str | None,
        typer.Option(metavar="A+B", help="Of a run: cleaners and a classifier in one, as denoiser+cnn."),
    ] = None,
    decoder: Annotated[
        bool, typer.Option("--decoder", help="The half of an autoencoder that makes images of codes.")
    ] = False,
    data: Annotated[
        str | None, typer.Option(help="A source to compare on. [default: images that the run keeps]")
    ] = None,
    code: Annotated[
        list[str] | None,
        typer.Option(metavar="FILE.py:NAME", help="Run this code of your own, if a bundle was made with it."),
    ] = None,
    as_json: AsJson = False,
) -> int:
    """Write a network as ONNX, if that computes the same, with a model card beside it."""
    from inklab.export.onnx_runtime import need
    from inklab.export.select import check_output

    need("onnx", "onnxscript", "onnxruntime")
    check_output(to)
    chosen = _chosen(bundle, chapter, pipeline, decoder)

    from inklab.export.card import card_data, write_export
    from inklab.export.graphs import load_selection, real_images
    from inklab.export.onnx_export import export_model as exported_from

    began = time.perf_counter()
    wanted = load_selection(chosen, trusted=code or [])
    exported = exported_from(wanted, real_images(chosen, data))
    card = write_export(exported, card_data(chosen), to)
    told = _told(exported, to, card, time.perf_counter() - began)
    if exported.remark:
        info(f"inklab predict won't read it back: {exported.remark}")
    echo_json(told) if as_json else _show(told)
    return EXIT_OK


def _chosen(name: str, chapter: str | None, pipeline: str | None, decoder: bool) -> "Selection":
    """What is meant by what was typed."""
    from inklab.export.select import model_at, of_bundle, of_pipeline, of_run
    from inklab.study.run_directory import RunDirectory

    if pipeline is not None and (chapter is not None or decoder):
        raise ConfigError("--pipeline names all its parts; leave --chapter and --decoder out")
    half = "decoder" if decoder else ""
    folder = model_at(Path(name))
    if folder is not None:
        if chapter is not None or pipeline is not None:
            raise ConfigError(f"'{name}' is one bundle; --chapter and --pipeline choose from a run")
        return of_bundle(folder, half)
    if not (Path(name) / "plan.json").is_file() and Path(name).exists():
        raise DataError(f"'{name}' is neither a bundle (bundle.json) nor a run (plan.json)")
    run = RunDirectory.existing(find_run(name))
    return of_pipeline(run, pipeline) if pipeline is not None else of_run(run, chapter, half)


def _told(exported: "ExportedModel", file: Path, card: Path, seconds: float) -> dict[str, Any]:
    from inklab.io.documents import sha256_of

    wanted = exported.wanted
    return {
        "file": str(file), "card": str(card), "bytes": len(exported.raw), "sha256": sha256_of(exported.raw),
        "name": wanted.name, "kind": wanted.kind, "inputs": {wanted.given: ["batch", *wanted.takes]},
        "outputs": {name: ["batch", *shape] for name, shape in wanted.gives.items()},
        "parity": exported.parity.to_json(), "remark": exported.remark, "seconds": round(seconds, 3),
    }  # fmt: skip


def _show(told: dict[str, Any]) -> None:
    parity = told["parity"]
    for side in ("inputs", "outputs"):
        told[side] = ", ".join(f"{name} ({', '.join(map(str, s))})" for name, s in told[side].items())
    largest = ", ".join(f"{name} {value:.1e}" for name, value in parity["largest"].items())
    real = (
        f"{parity['real']} of them real" if parity["real"] else "none of them real, there were none at hand"
    )
    echo(f"{told['file']}: {told['name']}, {told['kind']}, {told['bytes']:,} bytes")
    echo(f"{told['card']}: its model card")
    echo(f"{told['inputs']} -> {told['outputs']}")
    echo(f"the same as the original on {parity['images']} inputs ({real}) in batches of 1, 2 and 7")
    echo(f"largest differences: {largest}; allowed {parity['tolerance']:g}")

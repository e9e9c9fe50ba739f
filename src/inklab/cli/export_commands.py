"""The command that writes ONNX: export."""

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from inklab.cli.app import AsJson, app, find_run, note, out, out_json
from inklab.errors import EXIT_FINE, DataError, SpecError

if TYPE_CHECKING:
    from inklab.export.onnx_export import Exported
    from inklab.export.select import Chosen


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
    from inklab.export.select import check_place

    need("onnx", "onnxscript", "onnxruntime")
    check_place(to)
    chosen = _chosen(bundle, chapter, pipeline, decoder)

    from inklab.export.card import facts_of, write
    from inklab.export.graphs import load, real_images
    from inklab.export.onnx_export import export as exported_from

    began = time.perf_counter()
    wanted = load(chosen, trusted=code or [])
    exported = exported_from(wanted, real_images(chosen, data))
    card = write(exported, facts_of(chosen), to)
    told = _told(exported, to, card, time.perf_counter() - began)
    if exported.remark:
        note(f"inklab predict won't read it back: {exported.remark}")
    out_json(told) if as_json else _show(told)
    return EXIT_FINE


def _chosen(name: str, chapter: str | None, pipeline: str | None, decoder: bool) -> "Chosen":
    """What is meant by what was typed."""
    from inklab.export.select import bundle_at, of_bundle, of_pipeline, of_run
    from inklab.study.run_directory import RunFolder

    if pipeline is not None and (chapter is not None or decoder):
        raise SpecError("--pipeline names all its parts; leave --chapter and --decoder out")
    half = "decoder" if decoder else ""
    folder = bundle_at(Path(name))
    if folder is not None:
        if chapter is not None or pipeline is not None:
            raise SpecError(f"'{name}' is one bundle; --chapter and --pipeline choose from a run")
        return of_bundle(folder, half)
    if not (Path(name) / "plan.json").is_file() and Path(name).exists():
        raise DataError(f"'{name}' is neither a bundle (bundle.json) nor a run (plan.json)")
    run = RunFolder.existing(find_run(name))
    return of_pipeline(run, pipeline) if pipeline is not None else of_run(run, chapter, half)


def _told(exported: "Exported", file: Path, card: Path, seconds: float) -> dict[str, Any]:
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
    out(f"{told['file']}: {told['name']}, {told['kind']}, {told['bytes']:,} bytes")
    out(f"{told['card']}: its model card")
    out(f"{told['inputs']} -> {told['outputs']}")
    out(f"the same as the original on {parity['images']} inputs ({real}) in batches of 1, 2 and 7")
    out(f"largest differences: {largest}; allowed {parity['tolerance']:g}")

"""The command that writes ONNX: export."""

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from inklab.cli.console import (
    AsJson,
    Experiment,
    ModelArg,
    TrustCode,
    app,
    echo,
    echo_json,
    find_model_or_run,
)
from inklab.errors import EXIT_OK, ConfigError

if TYPE_CHECKING:
    from inklab.export.onnx_export import ExportedModel
    from inklab.export.select import Selection


@app.command()
def export(
    model: ModelArg,
    output: Annotated[
        Path,
        typer.Option(
            "--output", "-o", metavar="FILE.onnx", help="File to write; a model card goes beside it."
        ),
    ],
    experiment: Experiment = None,
    pipeline: Annotated[
        str | None,
        typer.Option(metavar="A+B", help="Of a run: denoisers or filters and a classifier, as denoiser+cnn."),
    ] = None,
    decoder: Annotated[
        bool, typer.Option("--decoder", help="Export only the decoder of an autoencoder: codes to images.")
    ] = False,
    data: Annotated[
        str | None,
        typer.Option(help="Dataset to compare on. [default: the images stored in the run]"),
    ] = None,
    trust_code: TrustCode = None,
    as_json: AsJson = False,
) -> int:
    """Write a network as ONNX, if the file computes the same, with a model card beside it."""
    from inklab.export.onnx_runtime import require_packages
    from inklab.export.select import check_output

    require_packages("onnx", "onnxscript", "onnxruntime")
    check_output(output)
    selection = _select(model, experiment, pipeline, decoder)

    from inklab.export.card import write_export
    from inklab.export.onnx_export import export_model

    started_at = time.perf_counter()
    graph = selection.load(trust_code or ())
    exported = export_model(graph, selection.comparison_images(graph.metadata.shape, data))
    card = write_export(exported, selection, output)
    if as_json:
        _print_json(exported, output, card, time.perf_counter() - started_at)
    else:
        _print_summary(exported, output, card)
    return EXIT_OK


def _select(name: str, experiment: str | None, pipeline: str | None, decoder: bool) -> "Selection":
    from inklab.export.select import select_experiment, select_model, select_pipeline
    from inklab.run import Run

    if pipeline is not None and (experiment is not None or decoder):
        raise ConfigError(
            "--pipeline names all parts; leave out --experiment and --decoder", key="--pipeline"
        )
    folder, run_path = find_model_or_run(name)
    if folder is not None:
        if experiment is not None or pipeline is not None:
            raise ConfigError(
                f"'{name}' is a single model; --experiment and --pipeline select from a run", key=name
            )
        return select_model(folder, decoder=decoder)
    assert run_path is not None
    run = Run(run_path)
    if pipeline is not None:
        return select_pipeline(run, pipeline)
    return select_experiment(run, experiment, decoder=decoder)


def _print_json(exported: "ExportedModel", file: Path, card: Path, seconds: float) -> None:
    graph = exported.graph
    echo_json(
        {
            "file": str(file),
            "card": str(card),
            "bytes": len(exported.raw),
            "sha256": exported.sha256,
            "name": graph.name,
            "kind": graph.kind,
            "inputs": {graph.input_name: ["batch", *graph.input_shape]},
            "outputs": {name: ["batch", *shape] for name, shape in graph.output_shapes.items()},
            "parity": exported.parity.rounded().to_json(),
            "seconds": round(seconds, 3),
        }
    )


def _print_summary(exported: "ExportedModel", file: Path, card: Path) -> None:
    from inklab.format import join_words, pluralize

    graph, parity = exported.graph, exported.parity
    outputs = ", ".join(_signature(name, shape) for name, shape in graph.output_shapes.items())
    largest = ", ".join(f"{name} {value:.1e}" for name, value in parity.max_difference.items())
    real = f"{parity.real_images} of them real" if parity.real_images else "no real ones were at hand"
    sizes = join_words([str(size) for size in parity.batch_sizes])
    echo(f"{file}: {graph.name}, {graph.kind}, {len(exported.raw):,} bytes")
    echo(f"{card}: its model card")
    echo(f"{_signature(graph.input_name, graph.input_shape)} -> {outputs}")
    echo(f"same as the original on {pluralize(parity.images, 'input')} ({real}) in batches of {sizes}")
    echo(f"largest differences: {largest}; allowed {parity.tolerance:g}")


def _signature(name: str, shape: tuple[int, ...]) -> str:
    return f"{name} (batch, {', '.join(map(str, shape))})"

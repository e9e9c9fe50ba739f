"""Commands that use trained models: predict, export, serve."""

import os
import sys
import threading
import time
import webbrowser
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from inklab.cli.console import (
    AsJson,
    Experiment,
    ModelArg,
    TrustCode,
    app,
    echo,
    echo_json,
    info,
)
from inklab.errors import ConfigError, DataError

if TYPE_CHECKING:
    from inklab.export.onnx_export import ExportedModel
    from inklab.export.select import Selection
    from inklab.notebook import Row
    from inklab.predictions import Inputs, Prediction, Predictions
    from inklab.records.components import PreprocessingWord
    from inklab.serve.address import BindAddress

PreprocessingOption = Annotated[
    Literal["mnist", "resize"] | None,
    typer.Option(
        help="mnist: detect ink, crop and center it; resize: the whole picture; else as the model says."
    ),
]
SHADES = " .:-=+*#%@"


# ---------------------------------------------------------------- predict


@app.command()
def predict(
    model: Annotated[
        str,
        typer.Argument(
            metavar="MODEL",
            help="A model's directory, an .onnx file, or a run; of a run its first classifier.",
        ),
    ],
    images: Annotated[
        list[Path],
        typer.Argument(metavar="IMAGE...", help="PNG, JPEG, BMP or WebP files of any size, or folders."),
    ],
    experiment: Experiment = None,
    trust_code: TrustCode = None,
    top: Annotated[int, typer.Option(min=1, help="Number of classes to show.")] = 3,
    preprocessing: PreprocessingOption = None,
    as_json: AsJson = False,
    as_csv: Annotated[bool, typer.Option("--csv", help="Print CSV on stdout.")] = False,
) -> None:
    """Classify image files, preprocessed like the training images, and show the network's input."""
    if as_json and as_csv:
        raise ConfigError("--json and --csv were given; choose one", key="--csv")
    if _is_onnx(model):
        if experiment is not None or trust_code:
            raise ConfigError(
                f"'{model}' is a single network; leave out --experiment and --trust-code", key="--experiment"
            )
        predictions = _predict_by_onnx(Path(model), images, preprocessing)
    else:
        folder = _model_dir(model, experiment)
        predictions = _predict_by_model(folder, _read_inputs(folder, images, preprocessing), trust_code or ())
    if as_json:
        echo_json([_as_json(prediction) for prediction in predictions])
    elif as_csv:
        echo(_as_csv(predictions.data))
    else:
        _print_predictions(predictions, top)
    if predictions.ood_note:
        info(f"NOTE: OOD scores are rough: {predictions.ood_note}")
    for error in predictions.errors.values():
        info(f"NOT READ: {error}")
    if predictions.errors:
        raise typer.Exit(DataError.exit_code)


def _is_onnx(name: str) -> bool:
    return name.lower().endswith(".onnx") and not Path(name).is_dir()


def _predict_by_onnx(
    path: Path, images: list[Path], preprocessing: "PreprocessingWord | None"
) -> "Predictions":
    from inklab.export.onnx_file import predict_file

    result = predict_file(path, images, preprocessing)
    if result.note:
        info(f"NOTE: {result.note}")
    predictions = result.predictions
    _refuse_lone_error(predictions.inputs)
    return predictions


def _read_inputs(folder: Path, images: list[Path], word: "PreprocessingWord | None") -> "Inputs":
    """Files as images of a model, before torch is imported."""
    from inklab.predictions import Inputs
    from inklab.records.components import Preprocessing
    from inklab.records.manifest import ModelManifest

    manifest = ModelManifest.read_from(folder)
    preprocessing = Preprocessing.of(word, manifest.shape) if word else manifest.preprocessing
    inputs = Inputs.of([Path(image) for image in images], preprocessing)
    _refuse_lone_error(inputs)
    return inputs


def _refuse_lone_error(inputs: "Inputs") -> None:
    if len(inputs.errors) == 1 and inputs.errors[0] is not None:
        raise DataError(inputs.errors[0], key=inputs.sources[0] or "")


def _predict_by_model(folder: Path, inputs: "Inputs", trust_code: Sequence[str]) -> "Predictions":
    from inklab.model import TrainedModel
    from inklab.runs import run_of_model

    run, _ = run_of_model(folder) or (None, "")
    model = TrainedModel.load(folder, trust_code=trust_code, run=run)
    model.check_task("classification")
    return model.predict_inputs(inputs)


def _print_predictions(predictions: "Predictions", top: int) -> None:
    from inklab.predictions import UNLIKE, to_bytes

    pictures = iter(to_bytes(predictions.inputs.images))
    for prediction in predictions:
        if prediction.error is not None:
            continue
        mark = f"   OOD score {prediction.ood_score:z.2f}"
        if prediction.abstained is not None:
            mark += f": {UNLIKE[prediction.abstained]}"
        _print_ranked(str(prediction.source), str(prediction.label), prediction.probabilities, top, mark)
        echo(_as_text(next(pictures).tolist()))


def _as_csv(rows: "Sequence[Row]") -> str:
    """A table as comma-separated values; what is missing is empty."""
    import csv
    import io

    file = io.StringIO()
    writer = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return file.getvalue().rstrip("\n")


def _as_json(prediction: "Prediction") -> dict[str, object]:
    return {
        "image": prediction.source,
        "label": prediction.label,
        "probabilities": prediction.probabilities,
        "ood_score": prediction.ood_score,
        "abstained": prediction.abstained,
        "error": prediction.error,
    }


def _model_dir(name: str, experiment: str | None) -> Path:
    from inklab.export.select import default_experiment
    from inklab.runs import find_model_or_run

    source = find_model_or_run(name)
    if isinstance(source, Path):
        return source
    return source.model_dir(experiment or default_experiment(source, "classification"))


def _print_ranked(image: str, label: str, probabilities: Mapping[str, float], top: int, mark: str) -> None:
    from inklab.format import format_percent

    ranked = sorted(probabilities.items(), key=lambda pair: -pair[1])[:top]
    shares = ", ".join(f"{name} {format_percent(share, 1)}" for name, share in ranked)
    echo(f"{image}: {label}   ({shares}){mark}")


def _as_text(pixels: Sequence[Sequence[Sequence[int]]]) -> str:
    """An image in characters, from dark to light; of a color image the mean of its channels."""
    lines = []
    for rows in zip(*pixels, strict=True):
        means = [sum(values) / len(values) for values in zip(*rows, strict=True)]
        lines.append("   " + "".join(SHADES[int(mean) * (len(SHADES) - 1) // 255] * 2 for mean in means))
    return "\n".join(line.rstrip() for line in lines)


# ---------------------------------------------------------------- export


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
) -> None:
    """Write a network as ONNX, if the file computes the same, with a model card beside it."""
    from inklab.export.onnx_file import require_packages
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


def _select(name: str, experiment: str | None, pipeline: str | None, decoder: bool) -> "Selection":
    from inklab.export.select import select_experiment, select_model, select_pipeline

    if pipeline is not None and (experiment is not None or decoder):
        raise ConfigError(
            "--pipeline names all parts; leave out --experiment and --decoder", key="--pipeline"
        )
    from inklab.runs import find_model_or_run

    source = find_model_or_run(name)
    if isinstance(source, Path):
        if experiment is not None or pipeline is not None:
            raise ConfigError(
                f"'{name}' is a single model; --experiment and --pipeline select from a run", key=name
            )
        return select_model(source, decoder=decoder)
    if pipeline is not None:
        return select_pipeline(source, pipeline)
    return select_experiment(source, experiment, decoder=decoder)


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
            "parity": exported.parity.to_json(),
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


# ---------------------------------------------------------------- serve


@app.command()
def serve(
    run: Annotated[
        str, typer.Argument(metavar="RUN|MODEL", help="A run directory, such as runs/latest, or a model's.")
    ] = "latest",
    host: Annotated[
        str,
        typer.Option(help="Address to listen at; an address other than this machine's own needs a token."),
    ] = "127.0.0.1",
    port: Annotated[
        int, typer.Option(min=0, max=65535, help="Port to listen at; 0 takes a free one.")
    ] = 8470,
    token: Annotated[
        str | None,
        typer.Option(
            envvar="INKLAB_TOKEN", metavar="TEXT", help="Token that clients need; 'auto' makes one."
        ),
    ] = None,
    allowed_host: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME", help="A host name that others use for this server; repeatable."),
    ] = None,
    open_page: Annotated[
        bool, typer.Option("--open/--no-open", help="Open the page in a browser, if there is a desktop.")
    ] = True,
    preprocessing: PreprocessingOption = None,
    trust_code: TrustCode = None,
) -> None:
    """Serve a page to draw on, classified by the networks of a run, and the progress of its study."""
    from inklab.export.onnx_file import require_packages
    from inklab.serve.address import ANY_ADDRESS, BindAddress, listen, parse_token

    require_packages("fastapi", "uvicorn", "onnx", "onnxscript", "onnxruntime", extra="serve")
    from inklab.runs import find_model_or_run

    source = find_model_or_run(run)
    path = source.resolve() if isinstance(source, Path) else source.path
    address = BindAddress(host, port, parse_token(token), tuple(allowed_host or ()))
    address.check()
    if host in ANY_ADDRESS and not address.allowed_hosts:
        info(f"at {host}, others are answered only under names given with --allowed-host")
    listener = listen(address)
    url = server_url(address, listener.getsockname()[1])

    def on_ready(skipped: Mapping[str, str]) -> None:
        for name, reason in skipped.items():
            info(f"without {name}: {reason}")
        echo(f"serving {path} at {url} (Ctrl-C to stop)")
        sys.stdout.flush()
        if open_page and _has_desktop():
            threading.Thread(target=webbrowser.open, args=(url,), daemon=True).start()

    info("loading networks; the first time, each is converted, which takes a second or two")
    try:
        with listener:
            from inklab.serve.server import serve as run_server

            run_server(path, address, listener, on_ready, trust_code or (), preprocessing)
    except KeyboardInterrupt:  # before it listened
        pass


def server_url(address: "BindAddress", port: int) -> str:
    """What to type into a browser."""
    from inklab.serve.address import ANY_ADDRESS

    host = address.host
    if host in ANY_ADDRESS:
        host = next(iter(address.allowed_hosts), "127.0.0.1")
    host = f"[{host}]" if ":" in host and not host.startswith("[") else host
    return f"http://{host}:{port}/" + (f"?token={address.token}" if address.token else "")


def _has_desktop() -> bool:
    """Whether a browser would open beside the terminal rather than in it."""
    return sys.stdout.isatty() and (
        sys.platform == "darwin" or bool(os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"))
    )

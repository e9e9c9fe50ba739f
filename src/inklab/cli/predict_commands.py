"""Commands that use a trained model or check the installation: predict, doctor."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from inklab.cli.console import (
    AsJson,
    Experiment,
    TrustCode,
    app,
    echo,
    echo_json,
    echo_table,
    find_model_or_run,
    info,
    runs_root,
)
from inklab.errors import EXIT_OK, EXIT_USAGE, ConfigError, DataError

if TYPE_CHECKING:
    from inklab.export.onnx_file import PicturePrediction

SHADES = " .:-=+*#%@"
PACKAGES = (
    "torch", "numpy", "scipy", "scikit-learn", "pydantic", "matplotlib", "safetensors", "pillow", "filelock",
    "pooch",
)  # fmt: skip
EXTRAS = {"onnxruntime": "inklab[onnx]", "fastapi": "inklab[serve]"}
"""Optional packages, and the extra that installs each."""


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
        typer.Argument(metavar="IMAGE...", help="PNG, JPEG, BMP or WebP files of any size."),
    ],
    experiment: Experiment = None,
    trust_code: TrustCode = None,
    top: Annotated[int, typer.Option(min=1, help="Number of classes to show.")] = 3,
    as_json: AsJson = False,
) -> int:
    """Classify image files, preprocessed like the training images, and show the network's input."""
    if _is_onnx(model):
        if experiment is not None or trust_code:
            raise ConfigError(
                f"'{model}' is a single network; leave out --experiment and --trust-code", key="--experiment"
            )
        predictions = _predict_by_onnx(Path(model), images)
    else:
        predictions = _predict_by_model(_model_dir(model, experiment), images, trust_code or ())
    if as_json:
        echo_json([prediction.model_dump(exclude={"input"}) for prediction in predictions])
        return EXIT_OK
    for prediction in predictions:
        _print_prediction(prediction, top)
    return EXIT_OK


def _is_onnx(name: str) -> bool:
    return name.lower().endswith(".onnx") and not Path(name).is_dir()


def _predict_by_onnx(path: Path, images: list[Path]) -> "Sequence[PicturePrediction]":
    from inklab.export.onnx_file import predict_file

    result = predict_file(path, images)
    if result.note:
        info(f"NOTE: {result.note}")
    return result.predictions


def _predict_by_model(
    folder: Path, images: list[Path], trust_code: Sequence[str]
) -> "list[PicturePrediction]":
    from inklab.data.preprocessing import open_image, preprocess_picture
    from inklab.export.onnx_file import PicturePrediction
    from inklab.records.manifest import ModelManifest

    # First, so that errors in pictures are reported before torch is imported.
    preprocessing = ModelManifest.read_from(folder).preprocessing
    inputs = [preprocess_picture(open_image(path), preprocessing) for path in images]

    import numpy as np
    import torch

    from inklab.model import TrainedModel

    model = TrainedModel.load(folder, trust_code=trust_code)
    rows = model.probabilities(torch.from_numpy(np.stack(inputs)).float() / 255).numpy()
    return [
        PicturePrediction.of(path, pixels, row, model.labels)
        for path, pixels, row in zip(images, inputs, rows, strict=True)
    ]


def _model_dir(name: str, experiment: str | None) -> Path:
    from inklab.export.select import default_experiment
    from inklab.run import Run

    folder, run_path = find_model_or_run(name)
    if folder is not None:
        return folder
    assert run_path is not None
    run = Run(run_path)
    return run.model_dir(experiment or default_experiment(run, "classification"))


def _print_prediction(prediction: "PicturePrediction", top: int) -> None:
    from inklab.format import format_percent

    ranked = sorted(prediction.probabilities.items(), key=lambda pair: -pair[1])[:top]
    shares = ", ".join(f"{label} {format_percent(share, 1)}" for label, share in ranked)
    echo(f"{prediction.image}: {prediction.label}   ({shares})")
    echo(_as_text(prediction.input))


def _as_text(pixels: Sequence[Sequence[Sequence[int]]]) -> str:
    """An image in characters, from dark to light; of a color image the mean of its channels."""
    lines = []
    for rows in zip(*pixels, strict=True):
        means = [sum(values) / len(values) for values in zip(*rows, strict=True)]
        lines.append("   " + "".join(SHADES[int(mean) * (len(SHADES) - 1) // 255] * 2 for mean in means))
    return "\n".join(line.rstrip() for line in lines)


# ---------------------------------------------------------------- doctor


@app.command()
def doctor(as_json: AsJson = False) -> int:
    """Check this installation, and show what inklab will use."""
    from inklab.data.sources import data_dir, is_offline
    from inklab.format import pluralize
    from inklab.hardware import cores
    from inklab.io.files import cache_dir
    from inklab.records.outcomes import Environment

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
    values = {
        "precision": execution.precision, "threads": execution.threads, "workers": execution.workers,
    }  # fmt: skip
    note = "" if profile else "; the first run measures the speed of this machine and decides better"
    texts = {name: f"{value} ({reasons[name]})" for name, value in values.items()}
    return {**texts, "compile": reasons["compile"] + note}


def _check_arithmetic() -> str:
    """Multiply two matrices in torch and compare with NumPy: a broken BLAS shows at once."""
    import numpy as np
    import torch

    a, b = np.random.default_rng(0).normal(size=(2, 64, 64)).astype(np.float32)
    is_equal = np.allclose(torch.from_numpy(a) @ torch.from_numpy(b), a @ b, atol=1e-4)
    return "correct" if is_equal else "WRONG: torch and NumPy disagree on a matrix product"


def _check_mnist() -> str:
    from inklab.data.sources import load_dataset

    before = os.environ.get("INKLAB_OFFLINE")
    os.environ["INKLAB_OFFLINE"] = "1"  # a check must not download
    try:
        return f"available, SHA-256 {load_dataset('mnist').sha256[:12]}..."
    except (DataError, ConfigError):
        return "not available; inklab data fetch mnist downloads it, until then runs use mnist-5k"
    finally:
        if before is None:
            del os.environ["INKLAB_OFFLINE"]
        else:
            os.environ["INKLAB_OFFLINE"] = before

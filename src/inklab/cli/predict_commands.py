"""Commands that use a bundle or look at the installation: predict, doctor."""

from pathlib import Path
from typing import Annotated, Any

import typer

from inklab.cli.app import AsJson, app, echo, echo_json, find_run, runs_root, table
from inklab.errors import EXIT_OK, EXIT_USAGE, ConfigError, CorruptFileError, DataError

SHADES = " .:-=+*#%@"
PACKAGES = "torch numpy scipy scikit-learn pydantic matplotlib safetensors pillow mlxtend".split()
EXTRAS = {"onnxruntime": "inklab[onnx]", "fastapi": "inklab[serve]"}
"""What can be done without, and what brings it."""


@app.command()
def predict(
    bundle: Annotated[
        str,
        typer.Argument(
            metavar="BUNDLE",
            help="A bundle's folder, an exported .onnx file, or a run whose first classifier (or --chapter) "
            "is used.",
        ),
    ],
    images: Annotated[
        list[Path],
        typer.Argument(metavar="IMAGE...", help="PNG, JPEG, BMP or WebP; any size, dark or light ground."),
    ],
    chapter: Annotated[str | None, typer.Option(help="Of a run: which chapter's network.")] = None,
    code: Annotated[
        str | None,
        typer.Option(
            metavar="FILE.py:NAME", help="Run this code of your own, if the bundle was made with it."
        ),
    ] = None,
    top: Annotated[int, typer.Option(min=1, help="Classes shown.")] = 3,
    as_json: AsJson = False,
) -> int:
    """Say what is on pictures, framed as the training images were made, and show what the network saw."""
    said = _said_by_onnx if _is_onnx(bundle) else _said_by_bundle
    framed, probabilities, labels = said(bundle, images, chapter, code)
    told = [_told(path, row, labels) for path, row in zip(images, probabilities, strict=True)]
    if as_json:
        echo_json(told)
        return EXIT_OK
    for each, pixels in zip(told, framed, strict=True):
        ranked = sorted(each["probabilities"].items(), key=lambda pair: -pair[1])[:top]
        echo(
            f"{each['image']}: {each['label']}   ("
            + ", ".join(f"{name} {share:.1%}" for name, share in ranked)
            + ")"
        )
        echo(picture(pixels))
    return EXIT_OK


PredictionRow = tuple[list[Any], Any, tuple[str, ...]]
"""Of pictures: how they were framed, the probabilities of each class, and the classes' names."""


def _said_by_bundle(name: str, images: list[Path], chapter: str | None, code: str | None) -> PredictionRow:
    folder = _bundle_folder(name, chapter)
    framed = _framed(folder, images)  # first: a wrong picture is told before torch is imported

    import numpy as np
    import torch

    from inklab.model import TrainedModel

    loaded = TrainedModel.load(folder, trusted=[code] if code else [])
    probabilities = loaded.probabilities(torch.from_numpy(np.stack(framed)).float() / 255).numpy()
    return framed, probabilities, loaded.labels


def _is_onnx(name: str) -> bool:
    return name.lower().endswith(".onnx") and not Path(name).is_dir()


def _said_by_onnx(name: str, images: list[Path], chapter: str | None, code: str | None) -> PredictionRow:
    """The same from an exported file, without torch."""
    import numpy as np

    from inklab.data.image_file import open_image
    from inklab.data.preprocessing import Preprocessing, frame
    from inklab.export.onnx_file import read_onnx

    if chapter is not None or code is not None:
        raise ConfigError(f"'{name}' is one network with all that it needs; leave --chapter and --code out")
    network = read_onnx(Path(name))
    framing = Preprocessing.from_json(network.about["framing"])
    framed = [frame(open_image(path), framing) for path in images]
    return framed, network.probabilities(np.stack(framed)), network.labels


def _framed(folder: Path, images: list[Path]) -> list[Any]:
    """The pictures, brought into the form of a bundle's training images."""
    from inklab.data.image_file import open_image
    from inklab.data.preprocessing import Preprocessing, frame
    from inklab.io.documents import read_json

    manifest = read_json(folder / "bundle.json")
    try:
        framing = Preprocessing.from_json(manifest.get("framing") if isinstance(manifest, dict) else None)
    except ConfigError as error:
        raise CorruptFileError(f"'{folder / 'bundle.json'}' is damaged: {error}") from error
    if list(framing.shape) != manifest.get("shape"):
        raise CorruptFileError(
            f"'{folder / 'bundle.json'}' is damaged: its framing makes images of another shape"
        )
    return [frame(open_image(path), framing) for path in images]


def _told(path: Path, row: Any, labels: tuple[str, ...]) -> dict[str, Any]:
    shares = {name: float(share) for name, share in zip(labels, row, strict=True)}
    return {"image": str(path), "label": max(shares, key=lambda name: shares[name]), "probabilities": shares}


def _bundle_folder(name: str, chapter: str | None) -> Path:
    """The bundle meant: a folder with bundle.json, a trial's folder, or a run's replicate 0."""
    from inklab.errors import UnknownNameError
    from inklab.export.select import model_at
    from inklab.results.experiment_summary import target_of
    from inklab.study.run_directory import RunDirectory

    bundle = model_at(Path(name))
    if bundle is not None:
        return bundle
    if not (Path(name) / "plan.json").is_file() and Path(name).exists():
        raise DataError(f"'{name}' is neither a bundle (bundle.json) nor a run (plan.json)")
    folder = RunDirectory.existing(find_run(name))
    trained = {each["name"]: each for each in folder.plan()["chapters"] if each["kind"] == "train"}
    if chapter is not None and chapter not in trained:
        raise UnknownNameError("train chapter", chapter, trained)
    for told in [trained[chapter]] if chapter else trained.values():
        first = told["settings"][0]
        if chapter or target_of(first) == "labels":
            found = folder.bundle(first["trials"][0])
            if (found / "bundle.json").is_file():
                return found
    targets = {target_of(told["settings"][0]) for told in trained.values()}
    if chapter is None and "labels" not in targets:
        raise DataError(
            f"'{name}' trains no classifier ({', '.join(trained)}), so it can't tell what is on a picture"
        )
    raise DataError(f"'{name}' has no bundle of a classifier yet; finish it with inklab resume {name}")


def picture(pixels: Any) -> str:
    """Pixels `(c, h, w)` as text, dark to light: what the network saw."""
    grey = pixels.mean(axis=0)
    return "\n".join(
        "   " + "".join(SHADES[int(value) * (len(SHADES) - 1) // 255] * 2 for value in row).rstrip()
        for row in grey
    )


@app.command()
def doctor(as_json: AsJson = False) -> int:
    """Is this installation all right, and what will it use?"""
    from inklab.data.sources import data_folder, is_offline
    from inklab.hardware import cores, cpu_name, environment
    from inklab.io.atomic import cache_dir

    packages = {name: _version(name) or "missing" for name in PACKAGES}
    extras = {
        name: _version(name) or f"not installed: pip install '{extra}'" for name, extra in EXTRAS.items()
    }
    told = environment(1, packages["torch"])
    here = data_folder()
    checks = {
        "inklab": told["inklab"],
        "python": told["python"],
        "platform": told["platform"],
        "processor": f"{cpu_name()}, {cores()} core{'s' if cores() > 1 else ''}",
        **_facts(),
        **packages,
        **extras,
        "arithmetic": _arithmetic(),
        "data folder": str(here) if here else "INKLAB_DATA_DIR is not set",
        "cache": str(cache_dir("data").parent),
        "mnist": _mnist(),
        "runs": str(runs_root().resolve()),
        "network": "not used (INKLAB_OFFLINE)" if is_offline() else "used for missing data only",
    }
    sound = "missing" not in packages.values() and checks["arithmetic"] == "right"
    if as_json:
        echo_json({"sound": sound, **checks})
    else:
        table(["what", "found"], [[key, value] for key, value in checks.items()])
        echo("\n" + ("all is well" if sound else "something is wrong: see above"))
    return EXIT_OK if sound else EXIT_USAGE


def _version(package: str) -> str | None:
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _facts() -> dict[str, str]:
    """What trainings would run in, as far as this machine was looked at (docs/engine.md)."""
    from inklab.study.resources import (
        ExecutionOptions,
        choose_execution,
        default_profile,
        load_cached_profile,
    )

    known = load_cached_profile()
    how = choose_execution(known or default_profile(), ExecutionOptions())
    later = "" if known else "; the first run looks at this machine and knows better"
    said = {key: f"{getattr(how, key)} ({how.why[key]})" for key in ("precision", "threads", "workers")}
    return {**said, "compiling": how.why["compile"] + later}


def _arithmetic() -> str:
    """Multiply two matrices in torch and compare with NumPy: a broken BLAS shows at once."""
    import numpy as np
    import torch

    a, b = np.random.default_rng(0).normal(size=(2, 64, 64)).astype(np.float32)
    return (
        "right"
        if np.allclose(torch.from_numpy(a) @ torch.from_numpy(b), a @ b, atol=1e-4)
        else "WRONG: torch and NumPy disagree on a product"
    )


def _mnist() -> str:
    import os

    from inklab.data.sources import load

    before = os.environ.get("INKLAB_OFFLINE")
    os.environ["INKLAB_OFFLINE"] = "1"  # looking must not download
    try:
        return f"here, sha256 {load('mnist').sha256[:12]}..."
    except (DataError, ConfigError):
        return "not here; inklab data get mnist downloads it, and until then runs use mnist-5k"
    finally:
        os.environ.pop("INKLAB_OFFLINE") if before is None else os.environ.update({"INKLAB_OFFLINE": before})

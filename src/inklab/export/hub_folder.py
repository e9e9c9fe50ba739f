"""A folder that can be pushed to the Hugging Face hub: a trained model with its card as README.md."""

import json
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from inklab.data.sources import datasets
from inklab.errors import ConfigError, InklabError
from inklab.export.card import (
    MAX_LABELS,
    TITLES,
    card_template,
    describe_preprocessing,
    describe_training,
    own_metrics,
    test_metrics,
)
from inklab.export.graphs import Exportable, network_graph
from inklab.export.onnx_file import require_packages
from inklab.export.select import CARD_MARK, SelectedPart
from inklab.imported_files import files_behind
from inklab.io.files import write_atomic
from inklab.metrics import CLASS_RECALL, Task, get_metric
from inklab.model import MANIFEST, WEIGHTS, TrainedModel
from inklab.runs import Run
from inklab.usercode import is_live, short_name, source_sha256

CARD, ONNX = "README.md", "model.onnx"
FILES = {CARD, ONNX, MANIFEST, WEIGHTS}
PIPELINE_TAGS: dict[Task, str] = {"classification": "image-classification", "denoising": "image-to-image"}
"""The hub's words for what a model does."""


class CardDataset(NamedTuple):
    """What a card says of the dataset.

    Attributes:
        name: that it is registered by, else what is known of it.
        is_published: whether it is known under that name elsewhere.
    """

    name: str
    is_published: bool


def write_hub_folder(model: TrainedModel, folder: Path) -> Path:
    """Write what `TrainedModel.to_folder` says.

    Raises:
        ConfigError: the folder holds something else.
        WriteError: the disk refuses.
    """
    code = _code_files(model)
    _check_folder(folder, FILES | {Path(name).parts[0] for name in code})
    if code:  # it is in the folder, wherever that lies; its path on this machine is nobody's business
        network = model.manifest.network
        network = network.model_copy(update={"name": short_name(network.name)})
        model = replace(model, manifest=model.manifest.model_copy(update={"network": network}))
    graph = network_graph(model)
    has_onnx = _can_export()
    if has_onnx:
        model.export_onnx(folder / ONNX)
    model.save(folder)
    for name, path in code.items():
        write_atomic(folder / name, path.read_bytes())
    write_atomic(folder / CARD, hub_card(model, graph, has_onnx=has_onnx, has_code=bool(code)))
    return folder


def _code_files(model: TrainedModel) -> dict[str, Path]:
    """The user's file behind a network and the modules beside it, by their names in a folder.

    None for a registered network, an object of a session, or a file that is gone or has changed since.
    """
    network = model.manifest.network
    path = Path(network.name.rpartition(":")[0]).expanduser()
    if not network.is_user_code or is_live(network.name) or not path.is_file():
        return {}
    if source_sha256(network.name) != model.manifest.source_sha256:
        return {}
    return {file.relative_to(path.parent).as_posix(): file for file in files_behind(path)}


def _check_folder(folder: Path, names: set[str]) -> None:
    if folder.exists() and not folder.is_dir():
        raise ConfigError(f"'{folder}' is a file; name a folder")
    others = sorted({path.name for path in folder.iterdir()} - names) if folder.is_dir() else []
    if others:
        raise ConfigError(f"'{folder}' holds '{others[0]}', which is no part of a model; name another folder")
    card = folder / CARD
    if card.is_file() and CARD_MARK not in card.read_text(encoding="utf-8", errors="replace"):
        raise ConfigError(f"'{card}' is not a model card of inklab; name another folder")


def _can_export() -> bool:
    try:
        require_packages("onnx", "onnxscript", "onnxruntime")
    except InklabError:
        return False
    return True


def hub_card(model: TrainedModel, graph: Exportable, *, has_onnx: bool, has_code: bool) -> str:
    """README.md with the front matter that the hub reads; the license is left to the user.

    Args:
        model: what it is about.
        graph: its network as it is exported.
        has_onnx: whether model.onnx lies beside it.
        has_code: whether the user's code behind the network does.
    """
    manifest, run = model.manifest, model.run if isinstance(model.run, Run) else None
    part = SelectedPart(graph.name, manifest.provenance.trial)
    known = run if run is not None and part.trial in run.plan.trials else None
    is_classifier = model.task == "classification"
    summary = model.summary()
    code = short_name(manifest.network.name) if manifest.network.is_user_code else ""
    return card_template("hub.md").render(
        name=short_name(graph.name),
        title=TITLES[graph.kind],
        mark=CARD_MARK,
        pipeline_tag=PIPELINE_TAGS[model.task],
        tags=["inklab", "pytorch", *(["onnx"] if has_onnx else []), *([] if code else [model.name])],
        dataset=_card_dataset(model),
        scores=list(_scores(model)),
        summary=f"{summary.title}; {summary.parameters:,} parameters.",
        shape=model.shape,
        preprocessing=describe_preprocessing(model.preprocessing),
        labels=model.labels[:MAX_LABELS] if is_classifier else (),
        n_classes=len(model.labels),
        code=code,
        file=code.rpartition(":")[0],
        has_code=has_code,
        load=_load_arguments(code),
        onnx=has_onnx,
        input_name=graph.input_name,
        output_names=[f"`{name}`" for name in graph.output_shapes],
        plan=known.plan if known else None,
        recipes=[describe_training(known, part)] if known else [],
        metrics=list(test_metrics(graph, known, [part]) if known else own_metrics(graph)),
    )


def _load_arguments(code: str) -> str:
    """What `inklab.load` needs besides the folder: code in a file, or an object of a session."""
    if not code:
        return ""
    return f", trust_code=[folder + {json.dumps(f'/{code}')}]" if ":" in code else f", network={code}"


def _card_dataset(model: TrainedModel) -> CardDataset:
    sha256 = model.manifest.provenance.data_sha256
    if model.run is not None:
        name = model.run.plan.data.dataset
        return CardDataset(name, True) if name in datasets else CardDataset(Path(name).name, False)
    return CardDataset("unknown" if sha256 is None else f"SHA-256 {sha256[:16]}", False)


def _scores(model: TrainedModel) -> list[tuple[str, str, float]]:
    """Type, label and value of each metric on the test set; accuracy and the like are shares in [0, 1]."""
    return [
        (name.removeprefix("test_"), get_metric(name).label, value)
        for name, value in model.manifest.metrics.items()
        if name.startswith("test_") and not name.startswith(f"test_{CLASS_RECALL}")
    ]

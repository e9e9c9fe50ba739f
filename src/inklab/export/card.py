"""The model card of an exported network: numbers for the text of `templates/card.md`."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from inklab.export.graphs import Exportable
from inklab.export.onnx_export import ExportedModel
from inklab.export.onnx_file import OPSET, GraphPart
from inklab.export.select import CARD_MARK, SelectedPart, Selection, card_path, check_output
from inklab.export.verify import REAL_IMAGES
from inklab.format import format_span, format_value, join_words, pluralize
from inklab.io.files import write_atomic
from inklab.metrics import CLASS_RECALL, get_metric
from inklab.records.components import NormalizeConfig, Pipeline, Preprocessing
from inklab.records.recipe import TrialConfig
from inklab.records.results import RobustnessResults, SettingResults
from inklab.runs import Run
from inklab.stats import estimate
from inklab.usercode import short_name

if TYPE_CHECKING:
    from jinja2 import Template

TEMPLATES = Path(__file__).parent / "templates"
MAX_CURVE_ROWS = 6
MAX_LABELS = 50

TITLES = {
    "classifier": "an image classifier", "denoiser": "a denoiser of images",
    "pipeline": "a denoiser and a classifier in one", "encoder": "images to codes",
    "decoder": "codes to images",
}  # fmt: skip
OUTPUT_RANGES = {
    "logits": "any number; the larger, the more likely that class",
    "probabilities": "0 to 1; each row sums to 1",
    "denoised": "0 to 1, the denoised images",
    "images": "0 to 1",
    "codes": "any number",
}
Row = tuple[str, ...]
"""Cells of a table in Markdown."""


def write_export(exported: ExportedModel, selection: Selection, file: Path) -> Path:
    """Write the file and then its card, each whole or not at all, and return the card's path.

    Raises:
        ConfigError: as `check_output`.
        WriteError: the disk refuses.
    """
    check_output(file)
    write_atomic(file, exported.raw)
    write_atomic(card_path(file), model_card(exported, selection, file))
    return card_path(file)


def card_template(name: str) -> "Template":
    """A template of a card, with filters for Markdown."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader(TEMPLATES),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters |= {
        "cell": _cell,
        "join_words": join_words,
        "pluralize": pluralize,
        "quoted": _quoted,
    }
    return environment.get_template(name)


def model_card(exported: ExportedModel, selection: Selection, file: Path) -> str:
    """The card, as Markdown; the run of the selection tells how it was trained and how good it is."""
    graph, run = exported.graph, selection.run
    trained = [part for part in selection.parts if part.trial is not None]
    robustness = None if run is None or selection.decoder else _find_robustness(run, selection.pipeline)
    return card_template("card.md").render(
        mark=CARD_MARK,
        title=TITLES[graph.kind],
        file=file,
        graph=graph,
        metadata=graph.metadata,
        outputs=list(graph.output_shapes),
        parity=exported.parity,
        extremes=[kind for kind in exported.parity.kinds if not kind.endswith(REAL_IMAGES)],
        plan=run.plan if run else None,
        description=list(_description(exported, file)),
        interface=list(_interface(graph)),
        preprocessing=None if graph.encode else describe_preprocessing(graph.metadata.preprocessing),
        recipes=[describe_training(run, part) for part in trained] if run else [],
        metrics=list(test_metrics(graph, run, trained) if run else own_metrics(graph)),
        robustness=robustness,
        curves=_curves(selection.pipeline, robustness) if robustness else [],
        diagnoses=[(part.name, row) for part in trained for row in _setting_results(run, part).diagnoses]
        if run
        else [],
    )


# ---------------------------------------------------------------- the file


def _description(exported: ExportedModel, file: Path) -> Iterator[Row]:
    metadata = exported.graph.metadata
    yield "file", f"`{file.name}`, {len(exported.raw):,} bytes, ONNX opset {OPSET}, fp32"
    yield "SHA-256", f"`{exported.sha256}`"
    yield from ((f"part `{part.name}`", _part(part)) for part in metadata.parts)
    if metadata.kind != "decoder":
        yield "classes", ", ".join(metadata.labels[:MAX_LABELS])


def _part(part: GraphPart) -> str:
    if part.network is None:
        return f"a filter: {part.filter}; it has no weights"
    kwargs = ", ".join(f"{key} = {format_value(value)}" for key, value in part.network.kwargs.items())
    name = f"`{short_name(part.network.name)}`" + (f" ({kwargs})" if kwargs else "")
    normalize = part.normalize
    inside = ""
    if normalize is not None and normalize != NormalizeConfig():
        inside = f"; normalizes inside, (x - {normalize.mean:g}) / {normalize.std:g}"
    return f"{name}{inside}; weights SHA-256 `{part.weights_sha256}`"


def _interface(graph: Exportable) -> Iterator[Row]:
    values = "0 or more, as the encoder makes them" if graph.input_name == "codes" else "0 to 1"
    yield "input", f"`{graph.input_name}`", _shape(graph.input_shape), values
    for name, shape in graph.output_shapes.items():
        yield "output", f"`{name}`", _shape(shape), OUTPUT_RANGES[name]


def _shape(shape: tuple[int, ...]) -> str:
    return f"float32 (batch, {', '.join(map(str, shape))})"


def describe_preprocessing(preprocessing: Preprocessing) -> str:
    """How a picture becomes an image, in words.

    Example:
        >>> describe_preprocessing(Preprocessing.resize_only((3, 32, 32)))
        'A picture of any size is resized as a whole to 32 x 32 pixels, bicubic with antialiasing, in color.'
    """
    size = f"{preprocessing.height} x {preprocessing.width} pixels"
    if preprocessing.is_resize_only:
        color = "in color" if preprocessing.channels == 3 else "in gray"
        return f"A picture of any size is resized as a whole to {size}, bicubic with antialiasing, {color}."
    by_mass = preprocessing.center == "mass"
    center = "their center of mass" if by_mass else "the middle of their bounding box"
    ground = (
        "light strokes on a dark ground" if preprocessing.light_on_dark else "dark strokes on a light ground"
    )
    return (
        "A picture of any size is converted to gray, and its background is removed. Its strokes, dark or "
        "light, are cropped, resized with antialiasing until their longer side has "
        f"{preprocessing.fit_to} pixels, and shifted until {center} is in the middle of {size}: {ground}. "
        "`inklab predict` does this; elsewhere "
        "you must do it first, or the metrics below don't hold."
    )


# ---------------------------------------------------------------- its training and its metrics


def describe_training(run: Run, part: SelectedPart) -> tuple[str, int, str]:
    """Name, replicate and recipe."""
    trial = run.plan.trial(part.trial or "")
    return part.name, trial.replicate, _recipe(trial.config)


def _recipe(config: TrialConfig) -> str:
    recipe, corruption = config.recipe, config.recipe.corruption
    weights = f", L2 {format_value(recipe.l2)}" if recipe.l2 else ""
    if recipe.weight_decay:
        weights += f", weight decay {format_value(recipe.weight_decay)}"
    if recipe.ema_decay is not None:
        weights += f", weights averaged with a decay of {recipe.ema_decay:g}"
    inputs = ""
    if corruption is not None:
        name = short_name(corruption.name)
        inputs = f", inputs corrupted with {name} of strength {format_span(corruption.strength)}"
    return (
        f"{pluralize(recipe.epochs, 'epoch')} of {recipe.optimizer} at learning rate "
        f"{format_value(recipe.learning_rate)} ({recipe.schedule}), batch size {recipe.batch_size}{weights}, "
        f"objective {recipe.objective}{inputs}; computed in {config.precision}, stored in fp32"
    )


def test_metrics(graph: Exportable, run: Run, parts: list[SelectedPart]) -> Iterator[Row]:
    """Metrics on the test set, of this network and of all replicates."""
    own = {part.name: part.metrics for part in graph.metadata.parts}
    n_test = run.plan.data.test
    for part in parts:
        for name, replicates in _setting_results(run, part).metrics.items():
            if name.startswith("test_") and not name.startswith(f"test_{CLASS_RECALL}"):
                metric, this_one = get_metric(name), ""
                if name in own[part.name]:
                    value = estimate([own[part.name][name]], images=n_test if metric.counts_images else None)
                    this_one = value.format(name, images=f"{n_test:,} test images")
                yield f"`{part.name}`", metric.label, this_one, replicates.format(name)


def own_metrics(graph: Exportable) -> Iterator[Row]:
    """What a model without its run knows."""
    for part in graph.metadata.parts:
        for name, value in part.metrics.items():
            yield f"`{part.name}`", get_metric(name).label, estimate([value]).format(name)


def _setting_results(run: Run, part: SelectedPart) -> SettingResults:
    experiment, setting = run.plan.setting_of(part.trial or "")
    return run.results.training[experiment.name].setting(setting.values)


def _find_robustness(run: Run, pipeline: str) -> RobustnessResults | None:
    """The first robustness experiment with a pipeline."""
    results = run.results.experiments.values()
    return next((r for r in results if isinstance(r, RobustnessResults) and pipeline in r.pipelines), None)


def _curves(pipeline: str, results: RobustnessResults) -> list[Row]:
    """Head and rows: mean recall of a pipeline and of the baseline at some strengths, if it is known."""
    names = list(dict.fromkeys((Pipeline(pipeline), results.baseline)))
    curves = [results.pipelines[name].recall for name in names]
    step = -(-len(results.strengths) // MAX_CURVE_ROWS)
    images = f"{results.images:,} test images"
    rows = [
        (format_value(strength), *(curve[index].format("recall", images=images) for curve in curves))
        for index, strength in enumerate(results.strengths)
        if index % step == 0 and curves[0][index].n
    ]
    return [("strength", *(f"`{name}`" for name in names)), *rows] if rows else []


def _cell(text: str) -> str:
    return " ".join(text.replace("|", "\\|").split())


def _quoted(text: str) -> str:
    """A text in quotes, as JSON and the front matter of a card have it."""
    return json.dumps(text, ensure_ascii=False)

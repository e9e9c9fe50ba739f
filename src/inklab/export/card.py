"""The model card of an exported network, as Markdown."""

from collections.abc import Iterable
from pathlib import Path

from inklab.export.onnx_export import ExportedModel
from inklab.export.onnx_file import OPSET, GraphMetadata, GraphPart
from inklab.export.select import CARD_MARK, SelectedPart, Selection, card_path, check_output
from inklab.export.verify import REAL_IMAGES, TOLERANCE
from inklab.format import format_value, join_words, pluralize
from inklab.io.files import write_atomic
from inklab.metrics import get_metric
from inklab.records.components import NormalizeConfig, Pipeline, Preprocessing
from inklab.records.recipe import TrialConfig
from inklab.records.results import RobustnessResults, SettingResults
from inklab.run import Run
from inklab.statistics import estimate

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
INTERVALS_NOTE = (
    "An interval over replicates says what training again would give, one over images what other images "
    "would give."
)
LICENSE_NOTE = "No license is granted here: that is up to who trained it, and to who owns the images."
NO_RUN_NOTE = "Its run was not at hand, so neither its recipe nor other replicates are known."


def write_export(exported: ExportedModel, selection: Selection, file: Path) -> Path:
    """Write the file and then its card, each whole or not at all.

    Args:
        exported: what is written.
        selection: what it was made from.
        file: ending in .onnx.

    Returns:
        The card's path.

    Raises:
        ConfigError: as `check_output`.
        WriteError: the disk refuses.
    """
    check_output(file)
    write_atomic(file, exported.raw)
    write_atomic(card_path(file), model_card(exported, selection, file))
    return card_path(file)


def model_card(exported: ExportedModel, selection: Selection, file: Path) -> str:
    """The card, as Markdown.

    Args:
        exported: what was exported.
        selection: what it was made from; its run tells how it was trained and how good it is.
        file: where the ONNX file is.
    """
    metadata, run = exported.graph.metadata, selection.run
    trained = [part for part in selection.parts if part.trial is not None]
    sections = [
        [CARD_MARK, f"# {metadata.name}: {TITLES[metadata.kind]}"],
        _description(exported, file),
        _interface(exported),
        _training(metadata, run, trained) if run else ["## How it was trained", "", NO_RUN_NOTE],
        _metrics(metadata, run, trained) if run else _own_metrics(metadata),
        _robustness(selection) if run and not selection.decoder else [],
        _parity(exported),
        _limits(metadata, run, trained),
        ["## License", "", LICENSE_NOTE],
        _usage(exported, file),
    ]
    return "\n\n".join("\n".join(lines) for lines in sections if lines) + "\n"


# ---------------------------------------------------------------- the file


def _description(exported: ExportedModel, file: Path) -> list[str]:
    metadata = exported.graph.metadata
    rows = [
        ("file", f"`{file.name}`, {len(exported.raw):,} bytes, ONNX opset {OPSET}, fp32"),
        ("SHA-256", f"`{exported.sha256}`"),
        *((f"part `{part.name}`", _part(part)) for part in metadata.parts),
    ]
    if metadata.kind != "decoder":
        rows.append(("classes", ", ".join(metadata.labels[:MAX_LABELS])))
    return ["## What it is", "", *_table(("", ""), rows)]


def _part(part: GraphPart) -> str:
    if part.network is None:
        return f"a filter: {part.filter}; it has no weights"
    kwargs = ", ".join(f"{key} = {format_value(value)}" for key, value in part.network.kwargs.items())
    name = f"`{part.network.name}`" + (f" ({kwargs})" if kwargs else "")
    normalize = part.normalize
    inside = ""
    if normalize is not None and normalize != NormalizeConfig():
        inside = f"; normalizes inside, (x - {normalize.mean:g}) / {normalize.std:g}"
    return f"{name}{inside}; weights SHA-256 `{part.weights_sha256}`"


def _interface(exported: ExportedModel) -> list[str]:
    graph = exported.graph
    values = "0 or more, as the encoder makes them" if graph.input_name == "codes" else "0 to 1"
    rows = [("input", f"`{graph.input_name}`", _shape(graph.input_shape), values)]
    rows += [
        ("output", f"`{name}`", _shape(shape), OUTPUT_RANGES[name])
        for name, shape in graph.output_shapes.items()
    ]
    table = _table(("", "name", "shape", "values"), rows)
    preprocessing = ["", describe_preprocessing(graph.metadata.preprocessing)] if graph.encode is None else []
    return ["## Inputs and outputs", "", *table, "", "The batch size is free.", *preprocessing]


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


def _parity(exported: ExportedModel) -> list[str]:
    parity = exported.parity
    real = f"{parity.real_images} real" if parity.real_images else "no real one was at hand"
    extreme = ", ".join(kind for kind in parity.kinds if not kind.endswith(REAL_IMAGES))
    largest = "; ".join(f"`{name}` {value:.1e}" for name, value in parity.max_difference.items())
    sizes = join_words([str(size) for size in parity.batch_sizes])
    return [
        "## Same as the original", "",
        f"Compared with the original network on {pluralize(parity.images, 'input')} ({real}, the others "
        f"extreme: {extreme}) in batches of {sizes}. Largest differences: {largest}. Allowed: {TOLERANCE:g}, "
        "for logits and codes times the largest of that image's. A file that differs by more is not written.",
    ]  # fmt: skip


def _usage(exported: ExportedModel, file: Path) -> list[str]:
    graph = exported.graph
    last, shape = list(graph.output_shapes)[-1], ", ".join(map(str, graph.input_shape))
    values = "codes" if graph.input_name == "codes" else "float32 in [0, 1], preprocessed as above"
    is_classifier = last == "probabilities"
    lines = [
        *(["import json"] if is_classifier else []),
        "import numpy as np, onnxruntime", "",
        f'session = onnxruntime.InferenceSession("{file.name}")',
        f"{graph.input_name} = np.zeros((1, {shape}), np.float32)  # replace by yours: {values}",
        f'{last} = session.run(["{last}"], {{"{graph.input_name}": {graph.input_name}}})[0]',
    ]  # fmt: skip
    if is_classifier:
        lines += ['labels = json.loads(session.get_modelmeta().custom_metadata_map["labels"])']
        lines += ["print(labels[probabilities[0].argmax()])"]
    else:
        lines += [f"print({last}.shape)"]
    return ["## How to run it", "", "```python", *lines, "```"]


# ---------------------------------------------------------------- its training and its metrics


def _training(metadata: GraphMetadata, run: Run, parts: list[SelectedPart]) -> list[str]:
    plan, data = run.plan, run.plan.data
    counts = f"{data.train:,} training, {data.validation:,} validation, {data.test:,} test"
    lines = [
        f"Study `{plan.study}`, root seed {plan.seed}. Images of `{data.dataset}` ({counts}; SHA-256 "
        f"`{metadata.data_sha256}`); settings were chosen on the validation set, the test set only reports.",
        "",
    ]
    for part in parts:
        trial = plan.trial(part.trial or "")
        lines += [f"- `{part.name}`, replicate {trial.replicate}: {_recipe(trial.config)}."]
    return ["## How it was trained", "", *lines]


def _recipe(config: TrialConfig) -> str:
    recipe, corruption = config.recipe, config.recipe.corruption
    l2 = f", L2 {format_value(recipe.l2)}" if recipe.l2 else ""
    inputs = ""
    if corruption is not None:
        strength = " to ".join(format_value(value) for value in dict.fromkeys(corruption.strength))
        inputs = f", inputs corrupted with {corruption.name} of strength {strength}"
    return (
        f"{pluralize(recipe.epochs, 'epoch')} of {recipe.optimizer} at learning rate "
        f"{format_value(recipe.learning_rate)} ({recipe.schedule}), batch size {recipe.batch_size}{l2}, "
        f"objective {recipe.objective}{inputs}; computed in {config.precision}, stored in fp32"
    )


def _metrics(metadata: GraphMetadata, run: Run, parts: list[SelectedPart]) -> list[str]:
    n_test = run.plan.data.test
    images = f"{n_test:,} test images"
    own = {part.name: part.metrics for part in metadata.parts}
    rows = []
    for part in parts:
        for name, replicates in _setting_results(run, part).metrics.items():
            if name.startswith("test_"):
                this_one = ""
                if name in own[part.name]:
                    n_images = n_test if get_metric(name).is_share else None
                    this_one = estimate([own[part.name][name]], images=n_images).format(name, images=images)
                rows.append((f"`{part.name}`", get_metric(name).label, this_one, replicates.format(name)))
    table = _table(("part", "metric", "this network", "all replicates"), rows)
    note = f"Measured once, after the last epoch, on {images}. {INTERVALS_NOTE}"
    return ["## How good it is", "", *table, "", note]


def _own_metrics(metadata: GraphMetadata) -> list[str]:
    """What a model without its run knows."""
    rows = [
        (f"`{part.name}`", get_metric(name).label, estimate([value]).format(name))
        for part in metadata.parts
        for name, value in part.metrics.items()
    ]
    return ["## How good it is", "", *_table(("part", "metric", "this network"), rows), "", NO_RUN_NOTE]


def _setting_results(run: Run, part: SelectedPart) -> SettingResults:
    experiment, setting = run.plan.setting_of(part.trial or "")
    return run.results.training[experiment.name].setting(setting.values)


def _robustness(selection: Selection) -> list[str]:
    assert selection.run is not None
    pipeline = selection.pipeline
    for entry in selection.run.results.experiments.values():
        if isinstance(entry, RobustnessResults) and pipeline in entry.pipelines:
            return _robustness_table(pipeline, entry)
    return []


def _robustness_table(pipeline: str, results: RobustnessResults) -> list[str]:
    names = list(dict.fromkeys((Pipeline(pipeline), results.baseline)))
    curves = [results.pipelines[name].recall for name in names]
    step = -(-len(results.strengths) // MAX_CURVE_ROWS)
    images = f"{results.images:,} test images"
    rows = [
        (format_value(strength), *(curve[index].format("recall", images=images) for curve in curves))
        for index, strength in enumerate(results.strengths)
        if index % step == 0 and curves[0][index].n
    ]
    if not rows:
        return []
    table = _table(("strength", *(f"`{name}`" for name in names)), rows)
    note = f"Mean recall over the classes on {images} with `{results.corruption}`."
    return ["## As images get worse", "", *table, "", note]


def _limits(metadata: GraphMetadata, run: Run | None, parts: list[SelectedPart]) -> list[str]:
    dataset = f"`{run.plan.data.dataset}`" if run else "the dataset that it was tested on"
    lines = [f"- Its metrics hold for images like those of {dataset}, preprocessed in the same way."]
    if metadata.kind in ("classifier", "pipeline"):
        lines += [
            "- It always predicts one of its classes, also for a picture that shows none of them.",
            "- Its probabilities were not calibrated: 0.9 need not be right 9 times in 10.",
        ]
    if metadata.kind == "decoder":
        lines += ["- What it draws is made up. Codes unlike those of real images give no sensible images."]
    if metadata.kind in ("denoiser", "pipeline"):
        lines += ["- A denoised image shows what training images look like, not what the noise hides."]
    if run:
        lines += [
            f"- Diagnosis {diagnosis.name} of `{part.name}`: {diagnosis.message}. {diagnosis.advice}"
            for part in parts
            for diagnosis in _setting_results(run, part).diagnoses
        ]
    lines += ["- It was not tested for uses that affect health, money, safety or rights of people."]
    return ["## What it should not be used for", "", *lines]


# ---------------------------------------------------------------- Markdown


def _table(head: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> list[str]:
    lines = [f"| {' | '.join(map(_cell, row))} |" for row in (head, *rows)]
    return [lines[0], "|---" * len(head) + "|", *lines[1:]]


def _cell(text: str) -> str:
    return " ".join(text.replace("|", "\\|").split())

"""The model card of an exported network: what it needs to know, what it says, what is written."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from inklab.data.preprocessing import Preprocessing
from inklab.errors import ConfigError
from inklab.export.onnx_export import ExportedModel
from inklab.export.select import MARK, Selection, card_of, check_output
from inklab.export.verify import BATCHES, REAL, TOLERANCE
from inklab.io.atomic import write_atomic
from inklab.io.documents import sha256_of
from inklab.results.phrases import format_interval, format_value, metric_label, number, pluralize, score_text
from inklab.results.summarize import results_of
from inklab.statistics import wilson

Json = dict[str, Any]

CURVE_ROWS = 6  # strengths that a card shows of a curve


@dataclass(frozen=True)
class ComponentData:
    """A run's trained part.

    Attributes:
        name: its chapter.
        replicate: which of its trainings is exported.
        recipe: how it was trained.
        precision: that the training computed in.
        scores: over all replicates, by name, as in results.json.
        own: this replicate's scores.
        verdicts: what the gauges found in this chapter.
    """

    name: str
    replicate: int
    recipe: Json
    precision: str
    scores: dict[str, Json]
    own: dict[str, float]
    verdicts: list[Json]


@dataclass(frozen=True)
class ComponentCurve:
    """How often a pipeline is right as images get worse.

    Attributes:
        corruption: its name.
        images: test images behind each number.
        rows: `(strength, score of the pipeline, score of the classifier alone, if that is another)`.
        alone: the classifier's name.
    """

    corruption: str
    images: int
    rows: list[tuple[float, Json, Json | None]]
    alone: str


@dataclass(frozen=True)
class CardData:
    """What a card says beyond the file itself. All of it is empty for a bundle that lies by itself."""

    study: str = ""
    source: str = ""
    counts: Json = field(default_factory=dict)
    seed: int = 0
    parts: list[ComponentData] = field(default_factory=list)
    curve: ComponentCurve | None = None


def card_data(chosen: Selection) -> CardData:
    """What a run says of what was chosen.

    Raises:
        CorruptFileError: one of the run's files is damaged.
    """
    if chosen.run is None:
        return CardData()
    snapshot = chosen.run.snapshot()
    plan, results = snapshot.plan, results_of(chosen.run, snapshot)
    trained = [(part.name, part.folder.parent.name) for part in chosen.parts if part.folder]
    parts = [_part(name, trial, plan, results, snapshot.outcomes) for name, trial in trained]
    data = plan["data"]
    counts = {key: data[key] for key in ("train", "validation", "test")}
    curve = None if chosen.half else _curve("+".join(part.name for part in chosen.parts), plan, results)
    return CardData(plan["study"], data["source"], counts, plan["seed"], parts, curve)


def _part(name: str, trial: str, plan: Json, results: Json, outcomes: Json) -> ComponentData:
    chapter = next(each for each in plan["chapters"] if each["name"] == name)
    place = next(i for i, each in enumerate(chapter["settings"]) if trial in each["trials"])
    setting = chapter["settings"][place]
    told = results["chapters"].get(name, {})
    scores = told["settings"][place] if "settings" in told else told
    kept = {key: each for key, each in scores.items() if key.startswith("test_") and isinstance(each, dict)}
    return ComponentData(
        name, setting["trials"].index(trial), setting["settings"]["recipe"], setting["settings"]["precision"],
        kept, outcomes.get(trial, {}).get("scores") or {}, told.get("verdict_details", []),
    )  # fmt: skip


def _curve(pipeline: str, plan: Json, results: Json) -> ComponentCurve | None:
    for chapter in plan["chapters"]:
        told = results["chapters"].get(chapter["name"], {})
        if chapter["kind"] != "noise" or pipeline not in told.get("pipelines", {}):
            continue
        scores, alone = (told["pipelines"][name]["tpr"] for name in (pipeline, chapter["alone"]))
        strengths = chapter["strengths"]
        step = max(1, -(-len(strengths) // CURVE_ROWS))
        rows = [
            (float(strengths[i]), scores[i], None if pipeline == chapter["alone"] else alone[i])
            for i in range(0, len(scores), step)
            if scores[i]["n"]
        ]
        return (
            ComponentCurve(chapter["corruption"], chapter["images"], rows, chapter["alone"]) if rows else None
        )
    return None


TITLES = {
    "classifier": "an image classifier", "denoiser": "a denoiser of images",
    "pipeline": "a cleaner and a classifier in one", "encoder": "images to codes",
    "decoder": "codes to images",
}  # fmt: skip
OUTPUTS = {
    "logits": "any number; the larger, the more it speaks for that class",
    "probabilities": "0 to 1; each row sums to 1",
    "cleaned": "0 to 1, the images as cleaned",
    "images": "0 to 1",
    "codes": "any number",
}


def model_card(exported: ExportedModel, facts: CardData, file: Path) -> str:
    """The card, as Markdown.

    Args:
        exported: what was exported.
        facts: what its run has to say; `CardData()` if there is none.
        file: where the ONNX file lies.
    """
    wanted = exported.wanted
    parts = [
        [MARK, f"# {wanted.name}: {TITLES[wanted.kind]}"],
        _what(exported, file),
        _sides(exported),
        _training(exported, facts),
        _scores(exported, facts),
        _noise(wanted.name, facts.curve),
        _same(exported),
        _limits(exported, facts),
        _license(),
        _running(exported, file),
    ]
    return "\n\n".join("\n".join(lines) for lines in parts if lines) + "\n"


def _what(exported: ExportedModel, file: Path) -> list[str]:
    about = exported.wanted.about
    rows = [("file", f"`{file.name}`, {len(exported.raw):,} bytes, ONNX opset 18, fp32")]
    rows += [("SHA-256", f"`{sha256_of(exported.raw)}`")]
    for part in about["parts"]:
        rows += [(f"part `{part['name']}`", _network(part))]
    if exported.wanted.kind != "decoder":
        rows += [("classes", ", ".join(about["labels"][:50]))]
    cells = [f"| {key} | {_cell(value)} |" for key, value in rows]
    return ["## What it is", "", "| | |", "|---|---|", *cells]


def _network(part: Json) -> str:
    if "filter" in part:
        return f"a filter: {part['filter']}; nothing in it is learned"
    settings = ", ".join(
        f"{key} {format_value(value)}" for key, value in part["model"].items() if key != "name"
    )
    scaling = part["scaling"]
    scaled = f"; images are scaled inside, (x - {scaling['mean']:g}) / {scaling['spread']:g}"
    identity = (scaling["mean"], scaling["spread"]) == (0.0, 1.0)
    name = f"`{part['model']['name']}`" + (f" ({settings})" if settings else "")
    return f"{name}{'' if identity else scaled}; weights SHA-256 `{part['weights_sha256']}`"


def _sides(exported: ExportedModel) -> list[str]:
    wanted = exported.wanted
    range_in = "0 or more, as the encoder makes them" if wanted.given == "codes" else "0 to 1, not scaled"
    rows = [("in", wanted.given, wanted.takes, range_in)]
    rows += [("out", name, shape, OUTPUTS[name]) for name, shape in wanted.gives.items()]
    cells = [
        f"| {way} | `{name}` | float32 (batch, {', '.join(map(str, shape))}) | {told} |"
        for way, name, shape, told in rows
    ]
    head = ["## What goes in and what comes out", "", "| | name | shape | values |", "|---|---|---|---|"]
    framing = [] if wanted.kind == "decoder" else ["", describe_preprocessing(wanted.about["framing"])]
    return [*head, *cells, "", "The number of images is free.", *framing]


def describe_preprocessing(told: Json) -> str:
    """How a picture becomes an image.

    Example:
        >>> describe_preprocessing(Preprocessing.plain((3, 32, 32)).to_json())
        'A picture of any size is resized as a whole to 32 x 32 pixels, bicubic with antialiasing, in colour.'
    """
    try:
        framing = Preprocessing.from_json(told)
    except ConfigError:
        return "How a picture is brought into this form is not known."
    size = f"{framing.height} x {framing.width} pixels"
    if framing.centre == "none":
        color = "in colour" if framing.channels == 3 else "in grey"
        return f"A picture of any size is resized as a whole to {size}, bicubic with antialiasing, {color}."
    middle = "its centre of mass" if framing.centre == "mass" else "the middle of its bounding box"
    ground = "light ink on a dark ground" if framing.light_on_dark else "dark ink on a light ground"
    return (
        "A picture of any size is made grey, its ground removed and the ink found, dark or light; the ink is "
        f"cropped, its longer side fitted into {framing.box} pixels with antialiasing, and placed so that "
        f"{middle} lies in the middle of {size}: {ground}. `inklab predict` does that; elsewhere it must be "
        "done before, or the scores below don't hold."
    )


def _training(exported: ExportedModel, facts: CardData) -> list[str]:
    if not facts.parts:
        return ["## How it was trained", "", *_alone(exported.wanted.about)]
    counts = ", ".join(f"{facts.counts[key]:,} {key}" for key in ("train", "validation", "test"))
    digest = exported.wanted.about["data_sha256"]
    lines = [f"Study `{facts.study}`, root seed {facts.seed}. Images of `{facts.source}` ({counts}; SHA-256 "]
    lines[0] += f"`{digest}`); settings were chosen on the validation images, the test images only report."
    lines += ["", *(f"- `{part.name}`, replicate {part.replicate}: {_recipe(part)}." for part in facts.parts)]
    return ["## How it was trained", "", *lines]


def _alone(about: Json) -> list[str]:
    """What bundles say of themselves without their run."""
    told = []
    for part in about["parts"]:
        made = part.get("made_by", {})
        if made:
            told += [f"- `{part['name']}`: trial `{made.get('id')}`, replicate {made.get('replicate')}"]
    return [*told, "", "Its run was not at hand, so this card can't say more."]


def _recipe(part: ComponentData) -> str:
    recipe = part.recipe
    shown = recipe.get("corruption")
    strength = shown and " to ".join(format_value(each) for each in dict.fromkeys(shown["strength"]))
    noisy = f", shown images with {shown['name']} of strength {strength}" if shown else ""
    l2 = f", L2 {format_value(recipe['l2'])}" if recipe["l2"] else ""
    return (
        f"{pluralize(recipe['epochs'], 'epoch')} of {recipe['optimiser']} at rate "
        f"{format_value(recipe['rate'])} ({recipe['schedule']}), "
        f"batches of {recipe['batch']}{l2}, to {recipe['objective']}{noisy}; "
        f"computed in {part.precision}, kept in fp32"
    )


def _scores(exported: ExportedModel, facts: CardData) -> list[str]:
    lines = ["## How good it is", ""]
    if not facts.parts:
        own = [(part["name"], part.get("scores") or {}) for part in exported.wanted.about["parts"]]
        rows = [
            f"| `{name}` | {metric_label(key)} | {value:.4g} |"
            for name, each in own
            for key, value in each.items()
        ]
        note = "Without its run, neither other replicates nor the number of test images are known."
        return [*lines, "| part | score | this network |", "|---|---|---|", *rows, "", note]
    lines += ["| part | score | this network | all replicates |", "|---|---|---|---|"]
    images = f"{facts.counts['test']:,} test images"
    for part in facts.parts:
        for name, score in part.scores.items():
            cells = [
                f"`{part.name}`",
                metric_label(name),
                _own(part, name, facts.counts["test"]),
                score_text(score, name, images),
            ]
            lines += [f"| {' | '.join(cells)} |"]
    return [
        *lines, "", f"Scored once, after the last epoch, on {images}. An interval over replicates says what "
        "training again would give, one over images what other images would.",
    ]  # fmt: skip


def _own(part: ComponentData, name: str, test_images: int) -> str:
    value = part.own.get(name)
    if value is None:
        return ""
    if not name.endswith("accuracy"):
        return number(value, name)
    return f"{number(value, name)} (95 % CI over images {format_interval(wilson(value, test_images), name)})"


def _noise(name: str, curve: ComponentCurve | None) -> list[str]:
    if curve is None:
        return []
    compared = any(alone for _, _, alone in curve.rows)
    head = ["strength", f"`{name}`", *([f"`{curve.alone}` alone"] if compared else [])]
    lines = ["## As images get worse", "", f"| {' | '.join(head)} |", "|---" * len(head) + "|"]
    for strength, score, alone in curve.rows:
        cells = [score_text(each, "tpr", f"{curve.images:,} images") for each in (score, alone) if each]
        lines += [f"| {format_value(strength)} | {' | '.join(cells)} |"]
    return [*lines, "", f"Mean true-positive rate over the classes; `{curve.corruption}` on test images."]


def _same(exported: ExportedModel) -> list[str]:
    parity = exported.parity
    real = f"{parity.real} real" if parity.real else "no real one at hand"
    told = "; ".join(f"`{name}` {value:.1e}" for name, value in parity.largest.items())
    batches = ", ".join(map(str, BATCHES[:-1]))
    return [
        "## The same as the original", "",
        f"Compared with inklab's own network on {pluralize(parity.images, 'input')} ({real}, the others "
        f"extreme: {', '.join(kind for kind in parity.kinds if not kind.endswith(REAL))}) in batches of "
        f"{batches} and {BATCHES[-1]}. Largest differences: {told}. Allowed: {TOLERANCE:g}, for logits and "
        "codes times the largest of that image's. A file that differs by more is not written.",
    ]  # fmt: skip


def _limits(exported: ExportedModel, facts: CardData) -> list[str]:
    source = f"`{facts.source}`" if facts.source else "the images it was tested on"
    lines = [f"- Its scores hold for images like those of {source}, framed in the same way, and no others."]
    if "probabilities" in exported.wanted.gives:
        lines += [
            "- It always names one of its classes, also for a picture that shows none of them or nothing.",
            "- Its probabilities were not checked to be frequencies: 0.9 need not be right 9 times in 10.",
        ]
    if exported.wanted.kind == "decoder":
        lines += ["- What it draws is made up. Codes unlike those of real images give no sensible images."]
    if "cleaned" in exported.wanted.gives:
        lines += ["- A cleaned image shows what training images were like, not what was under the noise."]
    found = [(part.name, each) for part in facts.parts for each in part.verdicts]
    lines += [
        f"- Verdict {each['name']} on `{name}`: {each['finding']}. {_begun(each['advice'])}"
        for name, each in found
    ]
    lines += ["- Nobody has checked it for anything that health, money, safety or rights of people hang on."]
    return ["## What it should not be used for", "", *lines]


def _begun(text: str | None) -> str:
    """A text as a sentence begins."""
    return f"{text[:1].upper()}{text[1:]}" if text else ""


def _license() -> list[str]:
    told = "No licence is claimed or granted here: that is up to who trained it, and to who owns the images."
    return ["## Licence", "", told]


def _running(exported: ExportedModel, file: Path) -> list[str]:
    wanted = exported.wanted
    last = list(wanted.gives)[-1]
    shape = ", ".join(map(str, wanted.takes))
    range_in = "codes" if wanted.given == "codes" else "float32 in [0, 1], framed as above"
    lines = [
        "import json", "import numpy as np, onnxruntime", "",
        f'session = onnxruntime.InferenceSession("{file.name}")',
        f"{wanted.given} = np.zeros((1, {shape}), np.float32)  # put in yours: {range_in}",
        f'{last} = session.run(["{last}"], {{"{wanted.given}": {wanted.given}}})[0]',
    ]  # fmt: skip
    if last == "probabilities":
        lines += ['labels = json.loads(session.get_modelmeta().custom_metadata_map["labels"])']
        lines += ["print(labels[probabilities[0].argmax()])"]
    else:
        lines = [line for line in lines if line != "import json"] + [f"print({last}.shape)"]
    return ["## To run it", "", "```python", *lines, "```"]


def _cell(text: str) -> str:
    return " ".join(text.replace("|", "\\|").split())


def write_export(exported: ExportedModel, facts: CardData, file: Path) -> Path:
    """Write the file and then its card, each whole.

    Args:
        exported: what is written.
        facts: for the card.
        file: its name, ending in .onnx.

    Returns:
        The card's path.

    Raises:
        ConfigError: as `check_output`.
        WriteError: the file system refuses.
    """
    check_output(file)
    write_atomic(file, exported.raw)
    write_atomic(card_of(file), model_card(exported, facts, file))
    return card_of(file)

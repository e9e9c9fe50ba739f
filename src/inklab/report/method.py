"""How a chapter was done, in a sentence computed from its plan."""

from typing import Any

from inklab.report.figures.drawing import listing
from inklab.report.figures.numerals import count
from inklab.report.figures.result_access import settings_of
from inklab.results.phrases import format_value
from inklab.run import Json, RunData
from inklab.training.objectives import objectives

OPTIMIZERS = {"sgd": "SGD", "adam": "Adam", "muon": "Muon"}


def method(run: RunData, chapter: Json) -> str:
    """One or two sentences: network, optimiser, rate, epochs, batch, replicates, precision; or the like."""
    words = {"train": _train, "noise": _noise, "generator": _generator, "data": _data}.get(
        str(chapter.get("kind"))
    )
    return words(run, chapter) if words else ""


def _train(run: RunData, chapter: Json) -> str:
    settings = settings_of(chapter)
    if not settings:
        return ""
    vary = [str(key) for key in chapter.get("vary") or []]
    one = settings[0].get("settings") or {}
    trials = {len(setting.get("trials") or []) for setting in settings}
    each = " for each setting" if len(settings) > 1 else ""
    replicates = (
        " or ".join(f"{n:,}" for n in sorted(trials))
        + (" replicate" if trials == {1} else " replicates")
        + each
    )
    varied = [
        f"{key} in {{{', '.join(format_value((each.get('values') or {}).get(key)) for each in settings)}}}"
        for key in vary
    ]
    parts = [
        network(one.get("model") or {}),
        *recipe(one.get("recipe") or {}, vary),
        *_scaling(one.get("scaling") or {}),
    ]
    images = (run.plan.get("data") or {}).get("train")
    shown = f", {count(images)} training images" if images else ""
    said = "; ".join(part for part in (*parts, *varied) if part)
    return f"{said}{shown}; {one.get('precision', '')}; {replicates}."


def network(model: Json) -> str:
    """A network's name and what was chosen of it.

    Example:
        >>> network({"name": "mlp", "hidden": [64, 64]})
        'Network mlp (hidden 64-64)'
    """
    chosen = ", ".join(f"{key} {format_value(value)}" for key, value in model.items() if key != "name")
    return f"Network {model.get('name', '')}" + (f" ({chosen})" if chosen else "")


def recipe(found: Json, vary: list[str]) -> list[str]:
    """How a network was trained, without what varies."""

    def said(key: str, text: str) -> str:
        return "" if key in vary or found.get(key) is None else text.format(format_value(found[key]))

    optimiser = OPTIMIZERS.get(str(found.get("optimiser")), str(found.get("optimiser", "")))
    momentum = said("momentum", ", momentum {}") if found.get("momentum") else ""
    schedule = "" if found.get("schedule") in (None, "constant") else f", {found['schedule']} schedule"
    warmup = f", {100 * found['warmup']:g} % of it warm-up" if found.get("warmup") else ""
    l2 = ("" if "l2" in vary else said("l2", "L2 {}")) if found.get("l2") else ""
    return [
        f"{optimiser}{said('rate', ', rate {}')}{momentum}{schedule}{warmup}",
        said("batch", "batches of {}"),
        said("epochs", "{} epochs" if found.get("epochs") != 1 else "{} epoch"),
        _loss(str(found.get("objective", ""))),
        l2,
        moved(found.get("augmentation")),
        corrupted(found.get("corruption")),
        said("scored_at", "scored at strength {}"),
    ]


def _loss(objective: str) -> str:
    """What an objective's author calls its loss; the bare name, if this inklab does not have it."""
    if objective not in objectives:
        return objective
    found = objectives[objective]
    return found.told + ("" if found.is_scored else " (in the training loss alone)")


def moved(augmentation: Any) -> str:
    """How training images were moved.

    Example:
        >>> moved({"shift": 2, "rotation": 10.0, "scale": 0.1, "elastic": 0.0})
        'moved at random: shifted by up to 2 pixels, turned by up to 10 degrees, scaled by up to 10 %'
    """
    told = augmentation or {}
    parts = [
        f"shifted by up to {told['shift']} pixel{'s' * (told['shift'] != 1)}" if told.get("shift") else "",
        f"turned by up to {told['rotation']:g} degrees" if told.get("rotation") else "",
        f"scaled by up to {told['scale'] * 100:g} %" if told.get("scale") else "",
        f"bent by {told['elastic']:g} pixels (standard deviation)" if told.get("elastic") else "",
    ]
    said = ", ".join(part for part in parts if part)
    return f"moved at random: {said}" if said else ""


def corrupted(corruption: Any) -> str:
    """With what images were spoilt in training.

    Example:
        >>> corrupted({"name": "salt_and_pepper", "strength": [0.0, 0.9]})
        'shown with salt-and-pepper noise, strength 0 to 0.9 drawn for each image'
    """
    if not corruption:
        return ""
    ends = sorted(set(corruption.get("strength") or []))
    strength = " to ".join(format_value(float(end)) for end in ends)
    drawn = " drawn for each image" if len(ends) > 1 else ", drawn anew each step"
    name = str(corruption.get("name", "")).replace("_", "-")
    return f"shown with {name} noise, strength {strength}{drawn}"


def _scaling(scaling: Json) -> list[str]:
    mean, spread = scaling.get("mean", 0.0), scaling.get("spread", 1.0)
    if mean == 0 and spread == 1:
        return []
    less = f" less {format_value(mean)}," if mean else ""
    return [f"images in [0, 1]{less} divided by {format_value(spread)} in front of the network"]


def _noise(run: RunData, chapter: Json) -> str:
    strengths = chapter.get("strengths") or []
    span = (
        f" at {len(strengths)} strengths from {min(strengths):g} to {max(strengths):g}" if strengths else ""
    )
    images = f"{count(chapter['images'])} test images" if chapter.get("images") else "Test images"
    return (
        f"{images} with {str(chapter.get('corruption', '')).replace('_', '-')} noise{span}, the same noise "
        "for every pipeline and "
        f"replicate. Pipelines: {listing([str(p) for p in chapter.get('pipelines') or []])}; replicate k is "
        "paired with replicate k."
    )


def _generator(run: RunData, chapter: Json) -> str:
    images = f"{count(chapter['fit_images'])} " if chapter.get("fit_images") else ""
    mixture = f"; the mixture has {chapter['components']} components" if chapter.get("components") else ""
    return (
        f"{count(chapter.get('samples') or 0)} images a sampler, drawn by the decoder of "
        f"{chapter.get('decoder')} "
        f"and judged by {chapter.get('judge')}. Samplers: "
        f"{listing([str(s) for s in chapter.get('samplers') or []])}. Distributions are fitted to the codes "
        "of "
        f"{images}clean training images{mixture}."
    )


def _data(run: RunData, chapter: Json) -> str:
    data = run.plan.get("data") or {}
    parts = [
        f"{count(data[part])} for {part.replace('train', 'training')}"
        for part in ("train", "validation", "test")
        if data.get(part)
    ]
    shape = " × ".join(str(size) for size in data.get("shape") or [])
    classes = len(data.get("labels") or [])
    return (
        f"Source {data.get('source', '')}: {listing(parts)}; images {shape} (channels × height × width), "
        f"{classes} classes."
    )

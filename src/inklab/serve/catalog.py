"""What is served: the networks of a run or a bundle, and their scores."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from inklab.corruptions.filters import filters
from inklab.data.preprocessing import Preprocessing
from inklab.errors import ConfigError, CorruptFileError, InklabError
from inklab.io.documents import read_json
from inklab.model import TrainedModel
from inklab.results.summarize import best_first, is_best
from inklab.study.forms.results import check_results
from inklab.study.run_directory import RunDirectory

Json = dict[str, Any]


def pipeline_accuracy(
    parts: Sequence[str], chapters: Mapping[str, Json], results: Mapping[str, Any]
) -> Json | None:
    """How often a pipeline is right on clean test images; None while it isn't known.

    Args:
        parts: its parts; a classifier alone is scored in its own chapter, others where noise has strength 0.
        chapters: the plan's train chapters by name.
        results: results.json, or nothing.
    """
    told = results.get("chapters", {})
    if len(parts) == 1:
        return _interval(_setting_of(chapters[parts[0]], told.get(parts[0], {})).get("test_accuracy"))
    for chapter in told.values():
        if isinstance(chapter, dict) and chapter.get("kind") == "noise" and 0 in chapter["strengths"]:
            curve = chapter["pipelines"].get("+".join(parts), {}).get("accuracy", [])
            place = chapter["strengths"].index(0)
            if place < len(curve):
                return _interval(curve[place])
    return None


def _setting_of(chapter: Mapping[str, Any], told: Mapping[str, Any]) -> Mapping[str, Any]:
    """A chapter's scores, or those of its best setting."""
    best = told.get("best")
    for setting in told.get("settings", []):
        values = {key: setting.get(key) for key in chapter["vary"]}
        if is_best(values, best):
            return dict(setting)
    return told


def _interval(score: Mapping[str, Any] | None) -> Json | None:
    """A score's mean with 95 %: over replicates where there are several, else over test images."""
    if not score or score.get("mean") is None:
        return None
    low, high = score.get("ci95") or score.get("ci95_images") or (None, None)
    return {"mean": score["mean"], "low": low, "high": high, "n": score["n"]}


def curves(plan: Mapping[str, Any], results: Mapping[str, Any]) -> Json | None:
    """True-positive rates of the first noise chapter that has any: what the page draws behind its slider."""
    for planned in plan["chapters"]:
        chapter = results.get("chapters", {}).get(planned["name"], {})
        if planned["kind"] == "noise" and chapter.get("pipelines"):
            drawn = {
                name: _curve(told["tpr"]) for name, told in chapter["pipelines"].items() if told.get("tpr")
            }
            return {
                "chapter": planned["name"], "corruption": chapter["corruption"],
                "strengths": chapter["strengths"], "pipelines": drawn,
            }  # fmt: skip
    return None


def _curve(scores: Sequence[Mapping[str, Any]]) -> Json:
    """Means, and their bounds if every point has some."""
    points = [_interval(score) or {"mean": None, "low": None, "high": None} for score in scores]
    bounds = {key: [point[key] for point in points] for key in ("low", "high")}
    whole = all(value is not None for values in bounds.values() for value in values)
    return {"tpr": [point["mean"] for point in points], **(bounds if whole else {"low": None, "high": None})}


UsableModel = Callable[[str | None, Path], tuple[str, TrainedModel]]
"""Loads the bundle in a folder and makes it ready; gives its id, which for a lone one is up to it."""


@dataclass(frozen=True)
class Catalog:
    """What there is, as it stood when it was looked at.

    Attributes:
        about: title, study, profile, kind.
        labels: a name for each class.
        framing: how any picture becomes an image.
        bundles: networks by id.
        pipelines: `[denoiser or filter, ...,] classifier`, by their joined names.
        accuracy: of pipelines, where it is known: mean, low, high and n.
        corruption: the study's own one.
        strengths: where the study measured it.
        generator: the study's generator chapter, or nothing.
        curves: the study's noise curves, if they are there.
        left_out: what can't be used, and why.
    """

    about: Json
    labels: tuple[str, ...]
    framing: Preprocessing
    bundles: Mapping[str, TrainedModel]
    pipelines: tuple[tuple[str, ...], ...]
    accuracy: Mapping[str, Json | None] = field(default_factory=dict)
    corruption: str | None = None
    strengths: list[float] | None = None
    generator: Json = field(default_factory=dict)
    curves: Json | None = None
    left_out: Mapping[str, str] = field(default_factory=dict)

    @property
    def shape(self) -> tuple[int, int, int]:
        """Channels, height and width of an image."""
        return self.framing.shape

    @property
    def classifiers(self) -> list[str]:
        """Ids of classifiers."""
        return [name for name, bundle in self.bundles.items() if bundle.target == "labels"]

    @property
    def denoisers(self) -> list[str]:
        """Ids of denoisers."""
        return [name for name, bundle in self.bundles.items() if bundle.target == "images"]


def catalog_of_bundle(folder: Path, usable: UsableModel) -> Catalog:
    """What a lone bundle offers.

    Args:
        folder: where it lies.
        usable: loads it, and makes it ready.

    Raises:
        InklabError: it can't be loaded, or its framing makes images of another shape.
    """
    name, bundle = usable(None, folder)
    model = bundle.model["name"]
    accuracy = bundle.scores.get("test_accuracy")
    told = None if accuracy is None else {"mean": accuracy, "low": None, "high": None, "n": 1}
    return Catalog(
        about={"title": model, "study": None, "profile": None, "kind": "bundle"},
        labels=bundle.labels,
        framing=_framing(bundle, folder),
        bundles={name: bundle},
        pipelines=((name,),) if bundle.target == "labels" else (),
        accuracy={name: told},
    )


def catalog_of_run(folder: RunDirectory, usable: UsableModel) -> Catalog:
    """What a run offers now: of each chapter replicate 0's network, of a sweep that of its best setting.

    What isn't there yet, or can't be loaded, is left out; so is what runs code that isn't trusted.

    Args:
        folder: the run.
        usable: loads a bundle, and makes it ready.

    Raises:
        CorruptFileError: the plan or the results are damaged.
    """
    plan, results = folder.plan(), read_results(folder)
    chapters = {each["name"]: each for each in plan["chapters"] if each["kind"] == "train"}
    framing, labels = _planned_framing(plan, folder), tuple(plan["data"]["labels"])
    first = {name: best_first(each, results)[0]["trials"][0] for name, each in chapters.items()}
    places = {name: folder.bundle(trial) for name, trial in first.items()}
    bundles, left_out = _loaded(places, usable, (labels, framing.shape))
    noise: Json = next((each for each in plan["chapters"] if each["kind"] == "noise"), {})
    pipelines = tuple(_pipelines(plan, bundles))
    return Catalog(
        about={"title": plan["title"], "study": plan["study"], "profile": plan["profile"], "kind": "run"},
        labels=labels,
        framing=framing,
        bundles=bundles,
        pipelines=pipelines,
        accuracy={"+".join(each): pipeline_accuracy(each, chapters, results) for each in pipelines},
        corruption=noise.get("corruption"),
        strengths=noise.get("strengths"),
        generator=next((each for each in plan["chapters"] if each["kind"] == "generator"), {}),
        curves=curves(plan, results),
        left_out=left_out,
    )


def _loaded(
    places: Mapping[str, Path], usable: UsableModel, form: tuple[tuple[str, ...], tuple[int, ...]]
) -> tuple[dict[str, TrainedModel], dict[str, str]]:
    """Bundles by chapter as far as they are there and can be used, and why others can't."""
    bundles, left_out = {}, {}
    for name, place in places.items():
        if not (place / "bundle.json").is_file():  # its training has not ended, or diverged
            continue
        try:
            _, bundle = usable(name, place)
            if (bundle.labels, bundle.shape) != form:
                raise CorruptFileError(
                    f"'{place}' is damaged: its labels or images are not those of the plan"
                )
            bundles[name] = bundle
        except InklabError as error:
            left_out[name] = str(error)
    return bundles, left_out


def read_results(folder: RunDirectory) -> Json:
    """results.json, or nothing yet.

    Raises:
        CorruptFileError: it is damaged.
    """
    path = folder.path / "results.json"
    try:
        return check_results(read_json(path), path)
    except FileNotFoundError:
        return {}


def _pipelines(plan: Json, bundles: Mapping[str, TrainedModel]) -> Iterator[tuple[str, ...]]:
    """The noise chapters' pipelines in their order, then every classifier alone; each once, if usable."""
    asked = [
        each for chapter in plan["chapters"] if chapter["kind"] == "noise" for each in chapter["pipelines"]
    ]
    classifiers = [name for name, bundle in bundles.items() if bundle.target == "labels"]
    for pipeline in dict.fromkeys((*asked, *classifiers)):
        *cleaners, last = pipeline.split("+")
        if last in classifiers and all(_cleans(part, bundles) for part in cleaners):
            yield (*cleaners, last)


def _cleans(part: str, bundles: Mapping[str, TrainedModel]) -> bool:
    return bundles[part].target == "images" if part in bundles else part in filters


def _planned_framing(plan: Json, folder: RunDirectory) -> Preprocessing:
    try:
        framing = Preprocessing.from_json(plan["data"]["framing"])
    except ConfigError as error:
        raise CorruptFileError(f"'{folder.path / 'plan.json'}' is damaged: {error}") from error
    if list(framing.shape) != list(plan["data"]["shape"]):
        raise CorruptFileError(
            f"'{folder.path / 'plan.json'}' is damaged: its framing makes images of another shape"
        )
    return framing


def _framing(bundle: TrainedModel, folder: Path) -> Preprocessing:
    try:
        framing = Preprocessing.from_json(bundle.framing)
    except ConfigError as error:
        raise CorruptFileError(f"'{folder / 'bundle.json'}' is damaged: {error}") from error
    if framing.shape != bundle.shape:
        raise CorruptFileError(
            f"'{folder / 'bundle.json'}' is damaged: its framing makes images of another shape"
        )
    return framing

"""The plan: every trial and evaluation of a study spelt out. Pure: runs nothing, imports no torch.

Ids are content addresses, so resuming, extending and sharing are set differences (docs/run-folder.md).
"""

import itertools
import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from pydantic import ValidationError

from inklab.data.dataset import class_counts
from inklab.errors import ConfigError, UnknownNameError, did_you_mean
from inklab.evaluation.samplers import REAL_DATA_BASELINE
from inklab.io.documents import fingerprint
from inklab.networks.network import check_model
from inklab.study.grouping import ExecutionConfig, ModeOf, group_trials
from inklab.study.spec import (
    Experiment,
    GenerationExperiment,
    RobustnessExperiment,
    ScalingSpec,
    StudySpec,
    TrainingExperiment,
)
from inklab.training.recipe import FIELDS_ADDED_LATER, Recipe
from inklab.usercode import is_user_code, source_sha256

FORMAT = 1
NUMERICS = 3
"""Raised by every change that may move a number; part of each id, so old and new outcomes never mix."""

VARIED = ("model", "recipe", "scaling")
DEFAULT_VALIDATION = 12  # one training image in so many: 5,000 of MNIST's 60,000
SMALL_VALIDATION = 500  # but so many where that is no more than an eighth: mnist-5k's 350 / 50 / 100 a class


@dataclass(frozen=True)
class DataIdentity:
    """What a plan must know of a data set.

    Attributes:
        source: what it was loaded as.
        sha256: of its content.
        shape: channels, height, width.
        labels: class names.
        counts: images per class of "train", "validation" and "test".
        mean: of the training images in [0, 1].
        spread: their standard deviation.
        framing: how pictures are brought into its form.
        note: what the user must see about it.
    """

    source: str
    sha256: str
    shape: tuple[int, int, int]
    labels: tuple[str, ...]
    counts: dict[str, list[int]]
    mean: float
    spread: float
    framing: dict[str, Any]
    note: str | None = None

    def to_json(self) -> dict[str, Any]:
        """As it stands in plan.json."""
        totals = {part: sum(counts) for part, counts in self.counts.items()}
        return {**asdict(self), **totals, "shape": list(self.shape), "labels": list(self.labels)}


def default_validation(train_images: int) -> int:
    """How many training images are held out unless the study says so.

    Example:
        >>> default_validation(60_000), default_validation(4_000), default_validation(100)
        (5000, 500, 12)
    """
    return max(train_images // DEFAULT_VALIDATION, min(SMALL_VALIDATION, train_images // 8))


def plan(
    spec: StudySpec, profile: str, data: DataIdentity, how: ExecutionConfig, lifting: ModeOf
) -> dict[str, Any]:
    """Spell out a study.

    Args:
        spec: the question.
        profile: its name goes into the run's id.
        data: the identity of the data.
        how: how it is carried out.
        lifting: what a rehearsal found out about each trial's settings.

    Returns:
        plan.json as in docs/run-folder.md.

    Raises:
        ConfigError: a chapter names something that is not there.
    """
    planner = _Planner(spec, data, how)
    chapters = [planner.chapter(name, chapter) for name, chapter in spec.chapters.items()]
    return {
        "format": FORMAT,
        "study": spec.name,
        "title": spec.title or spec.name,
        "about": spec.about,
        "profile": profile,
        "seed": spec.seed,
        "data": data.to_json(),
        "how": {**asdict(how), "why": dict(how.why)},
        "chapters": chapters,
        "trials": planner.trials,
        "groups": group_trials(planner.trials, how, lifting),
    }


def run_id(study: str, profile: str, data_sha256: str, seed: int) -> str:
    """The name of a run's folder: the same question about the same data goes on in the same place."""
    return fingerprint({"study": study, "profile": profile, "data": data_sha256, "seed": seed})


def distinct_settings(spec: StudySpec, data: DataIdentity, how: ExecutionConfig) -> list[dict[str, Any]]:
    """The settings of every train chapter, each once: what has to be rehearsed."""
    planner = _Planner(spec, data, how)
    found = []
    for name, chapter in spec.train_chapters().items():
        with _experiment_payload(name):
            found += [settings for _, settings in planner.grid(chapter)]
    return list({traits_key(settings): settings for settings in found}.values())


def traits_key(settings: dict[str, Any]) -> str:
    """What two settings have in common if one rehearsal serves both."""
    return fingerprint(
        [settings["model"], settings["recipe"]["objective"], settings["precision"], _sources(settings)]
    )


@dataclass
class _Planner:
    """Collects trials while chapters are spelt out."""

    spec: StudySpec
    data: DataIdentity
    how: ExecutionConfig

    def __post_init__(self) -> None:
        self.trials: dict[str, dict[str, Any]] = {}

    def chapter(self, name: str, chapter: Experiment) -> dict[str, Any]:
        """One chapter as it stands in the plan."""
        with _experiment_payload(name):
            return self._chapter(name, chapter)

    def _chapter(self, name: str, chapter: Experiment) -> dict[str, Any]:
        told = chapter.model_dump(mode="json")
        first, *also = [_reference(each, chapter) for each in told.pop("references")] or [{}]
        base = {
            "name": name,
            **told,
            "title": chapter.title or name,
            "reference": {**first, "also": also} if first else None,
        }
        if isinstance(chapter, TrainingExperiment):
            return {
                **_omit(base, "model", "recipe", "scaling"),
                "vary": self._vary(chapter),
                "settings": self._settings(chapter),
            }
        if isinstance(chapter, RobustnessExperiment):
            images = min(chapter.images or math.inf, sum(self.data.counts["test"]))
            return {**base, "images": images, "evaluations": self._noise(chapter, int(images))}
        if isinstance(chapter, GenerationExperiment):
            return {**base, "evaluations": self._generator(chapter)}
        return base

    def _vary(self, chapter: TrainingExperiment) -> list[str]:
        return [key.rpartition(".")[2] for key in chapter.vary]

    def _settings(self, chapter: TrainingExperiment) -> list[dict[str, Any]]:
        return [
            {
                "values": values,
                "settings": settings,
                "trials": [self._trial(settings, k) for k in range(chapter.replicates)],
            }
            for values, settings in self.grid(chapter)
        ]

    def grid(self, chapter: TrainingExperiment) -> list[tuple[dict[str, Any], dict[str, Any]]]:
        """Every point of a chapter's grid: what is varied there, and its resolved settings."""
        for key in chapter.vary:
            if key.split(".")[0] in {*TrainingExperiment.model_fields} - {*VARIED}:
                raise ConfigError(
                    f"vary names '{key}'; a key begins with {', '.join(VARIED)}, such as recipe.l2"
                )
        points = []
        for values in itertools.product(*chapter.vary.values()):
            told = chapter.model_dump(mode="json")
            for key, value in zip(chapter.vary, values, strict=True):
                _set_setting(told, key, value)
            varied = _validate({**told, "vary": {}}, values)
            points.append((dict(zip(self._vary(chapter), values, strict=True)), self._resolved(varied)))
        return points

    def _resolved(self, chapter: TrainingExperiment) -> dict[str, Any]:
        check_model(chapter.model)
        return {
            "model": chapter.model,
            "scaling": self._scaling(chapter).model_dump(mode="json"),
            "recipe": chapter.recipe.model_dump(mode="json"),
            "precision": self._precision(chapter),
        }

    def _scaling(self, chapter: TrainingExperiment) -> ScalingSpec:
        if isinstance(chapter.scaling, ScalingSpec):
            return chapter.scaling
        return (
            ScalingSpec(mean=self.data.mean, spread=self.data.spread)
            if chapter.scaling == "standard"
            else ScalingSpec()
        )

    def _precision(self, chapter: TrainingExperiment) -> str:
        if self.spec.precision != "auto":
            return self.spec.precision
        # A user's own module may not bear bf16 (a log of something small, say); they can ask for it.
        return "fp32" if is_user_code(chapter.model["name"]) else self.how.precision

    def _trial(self, settings: dict[str, Any], replicate: int) -> str:
        trial = fingerprint(
            {
                "settings": _id_payload(settings),
                "data": self.data.sha256,
                # what was held out is part of what was trained on
                "split": self.data.counts["validation"],
                "seed": self.spec.seed,
                "replicate": replicate,
                "numerics": NUMERICS,
                "source": _sources(settings),
            }
        )
        self.trials[trial] = {"settings": settings, "replicate": replicate}
        return trial

    def _evaluation(self, told: dict[str, Any], needs: list[str]) -> dict[str, Any]:
        identity = {
            "told": told,
            "needs": needs,
            "data": self.data.sha256,
            "seed": self.spec.seed,
            "numerics": NUMERICS,
        }
        corruption = told.get("corruption", "")
        if is_user_code(corruption):  # absent otherwise: a registered one changes with NUMERICS
            identity["source"] = source_sha256(corruption)
        return {"id": fingerprint(identity), **told, "needs": needs}

    def _noise(self, chapter: RobustnessExperiment, images: int) -> list[dict[str, Any]]:
        if not class_counts(np.array(self.data.counts["test"]), images).all():
            raise ConfigError(f"noise on {images} test images leaves a class without any; use more images")
        if chapter.alone not in chapter.pipelines:
            raise ConfigError(
                f"'{chapter.alone}' is what other pipelines are compared with, so it must be one of "
                f"{', '.join(chapter.pipelines)}"
            )
        found = []
        for pipeline in chapter.pipelines:
            parts = pipeline.split("+")
            trained = [part for part in parts if part in self.spec.train_chapters()]
            if parts[-1] not in trained:
                raise ConfigError(
                    f"pipeline '{pipeline}' must end in a classifier: "
                    f"{UnknownNameError('train chapter', parts[-1], self.spec.train_chapters())}"
                )
            told = {
                "kind": "noise",
                "pipeline": pipeline,
                "corruption": chapter.corruption,
                "strengths": list(chapter.strengths),
                "images": images,
            }
            for replicate, needs in enumerate(
                zip(*(self._single_setting_trials(part) for part in trained), strict=False)
            ):
                found.append(self._evaluation({**told, "replicate": replicate}, list(needs)))
        return found

    def _generator(self, chapter: GenerationExperiment) -> list[dict[str, Any]]:
        told = {
            "kind": "generator", "samples": chapter.samples, "components": chapter.components,
            "fit_images": chapter.fit_images, "nearest_images": chapter.nearest_images,
        }  # fmt: skip
        pairs = list(
            zip(
                self._single_setting_trials(chapter.decoder),
                self._single_setting_trials(chapter.judge),
                strict=False,
            )
        )
        return [
            self._evaluation({**told, "sampler": sampler, "replicate": replicate}, list(needs))
            for sampler in (REAL_DATA_BASELINE, *chapter.samplers)
            for replicate, needs in enumerate(pairs)
        ]

    def _single_setting_trials(self, name: str) -> list[str]:
        """The trials of a chapter that trains one setting."""
        chapters = self.spec.train_chapters()
        if name not in chapters:
            raise UnknownNameError("train chapter", name, chapters)
        points = self.grid(chapters[name])
        if len(points) > 1:
            raise ConfigError(
                f"chapter '{name}' has {len(points)} settings, so it can't be part of a pipeline; make a "
                "chapter with the one you want"
            )
        return [self._trial(points[0][1], replicate) for replicate in range(chapters[name].replicates)]


def _reference(reference: dict[str, Any], chapter: Experiment) -> dict[str, Any]:
    """A reference; if it was trained for another number of epochs, that is part of what differs."""
    theirs = reference.pop("epochs")
    ours = chapter.recipe.epochs if isinstance(chapter, TrainingExperiment) else None
    if theirs and ours and theirs != ours:
        reference["differs"] = "; ".join(
            filter(None, [f"{theirs} epochs, here {ours}", reference["differs"]])
        )
    return reference


def _id_payload(settings: dict[str, Any]) -> dict[str, Any]:
    """A trial's settings without recipe fields that came later and change nothing as they are.

    So what was trained before they were there keeps its id, and is not trained again.
    """
    told = settings["recipe"]
    idle = {key for key in FIELDS_ADDED_LATER if told[key] == Recipe.model_fields[key].default}
    recipe = {key: value for key, value in told.items() if key not in idle}
    return {**settings, "recipe": recipe}


def _sources(settings: dict[str, Any]) -> list[str]:
    names = [settings["model"]["name"], (settings["recipe"]["corruption"] or {}).get("name", "")]
    return [source_sha256(name) for name in names if is_user_code(name)]


@contextmanager
def _experiment_payload(chapter: str) -> Iterator[None]:
    """Say in which chapter a mistake is."""
    try:
        yield
    except ConfigError as error:
        raise ConfigError(f"chapter '{chapter}': {error}") from error


def _set_setting(table: dict[str, Any], key: str, value: object) -> None:
    *path, last = key.split(".")
    for part in path:
        if not isinstance(table.get(part), dict):
            raise ConfigError(f"vary names '{key}', but the chapter has no table '{part}'")
        table = table[part]
    if last not in table and path != ["model"]:  # a model's settings are checked by the model
        allowed = ", ".join(table)
        raise ConfigError(f"vary names '{key}'.{did_you_mean(last, table)} Allowed there: {allowed}")
    table[last] = value


def _validate(told: dict[str, Any], values: object) -> TrainingExperiment:
    try:
        return TrainingExperiment.model_validate(told)
    except ValidationError as error:
        reason = "; ".join(f"{'.'.join(map(str, each['loc']))}: {each['msg']}" for each in error.errors())
        raise ConfigError(f"vary gives {str(values)[:200]}, which the chapter can't have: {reason}") from None


def _omit(table: Mapping[str, Any], *keys: str) -> dict[str, Any]:
    return {key: value for key, value in table.items() if key not in keys}

"""A study with its data: loaded, split, and known by what a plan must know."""

from dataclasses import dataclass

from inklab.data.dataset import Dataset
from inklab.data.default import load_default
from inklab.data.source import load
from inklab.data.split import Split, split
from inklab.study.plan import DataIdentity, default_validation, run_id
from inklab.study.spec import StudySpec


@dataclass(frozen=True)
class Study:
    """A study with its data, ready to be planned.

    Attributes:
        spec: the question.
        profile: whose changes were applied.
        dataset: the images.
        split: the same, split.
        identity: what the plan knows of them.
    """

    spec: StudySpec
    profile: str
    dataset: Dataset
    split: Split
    identity: DataIdentity

    @property
    def id(self) -> str:
        """The run folder's name."""
        return run_id(self.spec.name, self.profile, self.identity.sha256, self.spec.seed)


def load_data(spec: StudySpec) -> Dataset:
    """Load the source that a study names.

    Raises:
        DataError: the images can't be had or are not what they should be.
    """
    source = spec.data.source
    return load_default() if source == "default" else load(source, seed=spec.seed)


def open_study(spec: StudySpec, profile: str, dataset: Dataset | None = None) -> Study:
    """Load a study's data, unless it is given, and split it.

    Raises:
        DataError: the images can't be had or are not what they should be.
        SpecError: more validation images than there are.
    """
    dataset = load_data(spec) if dataset is None else dataset
    held = spec.data.validation
    parts = split(
        dataset, validation=default_validation(len(dataset.train)) if held is None else held, seed=spec.seed
    )
    classes = len(dataset.labels)
    images = parts.train.pixels
    identity = DataIdentity(
        source=dataset.source,
        sha256=dataset.sha256,
        shape=dataset.shape,
        labels=tuple(dataset.labels),
        counts={name: getattr(parts, name).counts(classes) for name in ("train", "validation", "test")},
        mean=float(images.mean()) / 255,
        spread=float(images.std()) / 255,
        framing=dataset.framing.to_json(),
        note=dataset.note,
    )
    return Study(spec, profile, dataset, parts, identity)

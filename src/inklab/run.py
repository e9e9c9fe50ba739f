"""A run as a report reads it: plan, results, outcomes, arrays and images."""

from functools import cached_property
from pathlib import Path
from typing import Any, Protocol, TypeAlias, runtime_checkable

import numpy as np

from inklab.data.dataset import Dataset, ImageSet, split
from inklab.data.sources import load
from inklab.errors import InklabError
from inklab.io.documents import read_json
from inklab.io.tensor_file import write_arrays
from inklab.results.narrative import sentence
from inklab.shapes import Labels, Pixels
from inklab.study.forms.arrays import StoredArrays
from inklab.study.forms.results import check_results
from inklab.study.run_directory import RunDirectory, Snapshot
from inklab.usercode import is_user_code

SAMPLES_A_CLASS = 10


class StoredRun:
    """A run folder, seen by the report: as it stood when it was first looked at.

    Args:
        folder: the run.
        dataset: its images, if at hand; otherwise looked for by the source's name when first needed.
        snapshot: what was read of it already, so as not to read it twice.
    """

    def __init__(
        self, folder: RunDirectory, dataset: Dataset | None = None, snapshot: Snapshot | None = None
    ) -> None:
        self._folder = folder
        self._given = dataset
        self._read = snapshot

    @property
    def path(self) -> Path:
        """The run folder's path."""
        return self._folder.path

    @cached_property
    def _snapshot(self) -> Snapshot:
        return self._read or self._folder.snapshot()

    @cached_property
    def _arrays(self) -> StoredArrays:
        return StoredArrays(self.path, self.plan)

    @property
    def plan(self) -> dict[str, Any]:
        """plan.json."""
        return self._snapshot.plan

    @cached_property
    def results(self) -> dict[str, Any]:
        """results.json, or nothing yet."""
        path = self.path / "results.json"
        return check_results(read_json(path), path) if path.is_file() else {}

    @cached_property
    def sentences(self) -> dict[str, str]:
        """One sentence a chapter, computed from its numbers."""
        told = self.results.get("chapters", {})
        chapters = [
            chapter for chapter in self.plan["chapters"] if isinstance(told.get(chapter["name"]), dict)
        ]
        return {chapter["name"]: sentence(chapter, told[chapter["name"]]) for chapter in chapters}

    def outcome(self, trial: str) -> dict[str, Any] | None:
        """What became of a trial."""
        return self._snapshot.outcomes.get(trial)

    def evaluation(self, evaluation: str) -> dict[str, Any] | None:
        """What an evaluation computed."""
        return self._snapshot.evaluations.get(evaluation)

    def arrays(self, name: str) -> dict[str, np.ndarray]:
        """The arrays of a trial or an evaluation."""
        return self._arrays(name)

    def samples(self) -> tuple[Pixels, Labels, list[str]] | None:
        """The first training images of each class; kept in the run folder, so a moved run can be drawn."""
        found = self._arrays.samples()
        if not found:
            return None
        return found["pixels"], found["labels"].astype(np.int64), list(self.plan["data"]["labels"])

    def test_images(self, indices: np.ndarray) -> Pixels | None:
        """The test images at some places, if the data is at hand."""
        return None if self._dataset is None else self._dataset.test.pixels[indices]

    def test_labels(self) -> Labels | None:
        """All test labels, if the data is at hand."""
        return None if self._dataset is None else self._dataset.test.labels

    def training_parts(self) -> tuple[ImageSet, ImageSet] | None:
        """Training and validation images as the study split them, if the data is at hand."""
        if self._dataset is None:
            return None
        held = sum(self.plan["data"]["counts"]["validation"])
        parts = split(self._dataset, validation=held, seed=self.plan["seed"])
        return parts.train, parts.validation

    @cached_property
    def _dataset(self) -> Dataset | None:
        if self._given is not None:
            return self._given
        told = self.plan["data"]
        if is_user_code(told["source"]):  # a plan may come from anywhere; only what is typed is run
            return None
        try:
            found = load(told["source"], seed=self.plan["seed"])
        except InklabError:
            return None
        return found if found.sha256 == told["sha256"] else None


def save_samples(folder: RunDirectory, pixels: Pixels, labels: Labels) -> None:
    """Write a few images of each class into the run folder, for the report."""
    places = np.concatenate(
        [np.flatnonzero(labels == label)[:SAMPLES_A_CLASS] for label in np.unique(labels)]
    )
    write_arrays(folder.path / "samples.safetensors", {"pixels": pixels[places], "labels": labels[places]})


Json: TypeAlias = dict[str, Any]
"""A JSON object as it stands in the run folder; `docs/run-folder.md` describes each."""

Arrays: TypeAlias = dict[str, np.ndarray]


@runtime_checkable
class RunData(Protocol):
    """A run, read only. Whatever is missing is `None` or empty, never an error.

    Attributes:
        path: the run folder.
        plan: `plan.json`.
        results: `results.json`; `{}` as long as there is none.
        sentences: chapter name to one sentence computed from its numbers; chapters may be missing.
    """

    @property
    def path(self) -> Path: ...  # noqa: D102

    @property
    def plan(self) -> Json: ...  # noqa: D102

    @property
    def results(self) -> Json: ...  # noqa: D102

    @property
    def sentences(self) -> dict[str, str]: ...  # noqa: D102

    def outcome(self, trial: str) -> Json | None:
        """What became of a trial, or `None` if it was not run yet."""

    def evaluation(self, evaluation: str) -> Json | None:
        """What an evaluation computed, or `None` if it was not run yet."""

    def arrays(self, name: str) -> Arrays:
        """The arrays of a trial (predictions or examples) or an evaluation, by id; `{}` if there are none."""

    def samples(self) -> tuple[Pixels, Labels, list[str]] | None:
        """Some training images per class with their labels, and the class names; `None` without the data."""

    def test_images(self, indices: np.ndarray) -> Pixels | None:
        """The test images at `indices` `(m,)`, or `None` without the data."""

    def test_labels(self) -> Labels | None:
        """The labels of all test images `(n,)` in their order, or `None` without the data."""

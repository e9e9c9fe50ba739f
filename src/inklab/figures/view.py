"""What figures and the report see of a run: one small protocol, so that any store can be drawn."""

from pathlib import Path
from typing import Any, Protocol, TypeAlias, runtime_checkable

import numpy as np

from inklab.arrays import Labels, Pixels

Json: TypeAlias = dict[str, Any]
"""A JSON object as it stands in the run folder; `docs/run-folder.md` describes each."""

Arrays: TypeAlias = dict[str, np.ndarray]


@runtime_checkable
class RunView(Protocol):
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

"""The test images that a network classified wrongly, by true and predicted class."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int

from inklab.records.outcomes import TrialOutcome
from inklab.records.plan import TrainingPlan
from inklab.report.figures.image_plots import is_ink, to_data_uri
from inklab.runs import Run

MAX_CELL_IMAGES = 5
MAX_LISTED_IMAGES = 60
"""Images of one network in the page; an image takes about 600 bytes."""

MAX_MATRIX_CLASSES = 36
"""Columns of a table of counts."""


class Mistakes(NamedTuple):
    """What replicate 0 classified wrongly, the most confident first.

    Attributes:
        indices: of the test images.
        true: their classes.
        predicted: what the network gave instead.
        confidence: its probability of that.
        images: test images in all.
        hits: how many of each class are right.
    """

    indices: Int[np.ndarray, " n"]
    true: Int[np.ndarray, " n"]
    predicted: Int[np.ndarray, " n"]
    confidence: Float[np.ndarray, " n"]
    images: int
    hits: tuple[int, ...]


class MistakeImage(NamedTuple):
    """One image: its position in the test set, its picture as a data URI, the wrong class's probability."""

    position: int
    picture: str
    confidence: float


class MistakeCell(NamedTuple):
    """A cell of the matrix off the diagonal: an anchor, both classes, how many in total, the first images."""

    anchor: str
    true: str
    predicted: str
    total: int
    images: tuple[MistakeImage, ...]


class MistakeMatrix(NamedTuple):
    """Counts by true (row) and predicted class (column); cells with mistakes lead to their images.

    Attributes:
        labels: of the classes.
        rows: for each class, counts; and the cell where there are mistakes with images.
        cells: those with images, the most frequent first.
        is_ink: whether pictures are ink on the page's ground.
        images: test images in all.
    """

    labels: tuple[str, ...]
    rows: tuple[tuple[tuple[int, MistakeCell | None], ...], ...]
    cells: tuple[MistakeCell, ...]
    is_ink: bool
    images: int


def first_replicate(run: Run, plan: TrainingPlan) -> TrialOutcome | None:
    """Replicate 0 of the first setting, if it is done."""
    outcome = run.outcomes.get(plan.settings[0].trials[0])
    return outcome if outcome is not None and outcome.is_done else None


def find_mistakes(run: Run, plan: TrainingPlan) -> Mistakes | None:
    """The mistakes of replicate 0; None for a grid, without predictions, or if most of them are wrong."""
    outcome = first_replicate(run, plan) if len(plan.settings) == 1 else None
    arrays = run.arrays(outcome.id) if outcome else {}
    labels = run.images.test_labels() if "predicted" in arrays else None  # last, as it may load the dataset
    if labels is None or len(arrays["predicted"]) != len(labels):
        return None
    predicted, confidence = arrays["predicted"].astype(np.int64), arrays["confidence"].astype(float)
    wrong = np.flatnonzero(predicted != labels)
    if not len(wrong) or 2 * len(wrong) > len(labels):  # an untrained network's mistakes show nothing
        return None
    order = wrong[np.argsort(-confidence[wrong], kind="stable")]
    hits = np.bincount(labels[predicted == labels], minlength=len(run.plan.data.labels))
    return Mistakes(
        order, labels[order], predicted[order], confidence[order], len(labels), tuple(hits.tolist())
    )


def mistake_matrix(run: Run, plan: TrainingPlan, anchor: str) -> MistakeMatrix | None:
    """Counts of replicate 0 by class, with the most confident images of each kind of mistake.

    Args:
        run: whose test images are listed, as far as they can be had.
        plan: an experiment.
        anchor: begins the ids of its cells.
    """
    wrong, labels = find_mistakes(run, plan), run.plan.data.labels
    if wrong is None or len(labels) > MAX_MATRIX_CLASSES:
        return None
    kinds: dict[tuple[int, int], list[int]] = {}
    for position, pair in enumerate(zip(wrong.true.tolist(), wrong.predicted.tolist(), strict=True)):
        kinds.setdefault(pair, []).append(position)
    ranked = sorted(kinds.items(), key=lambda item: (-len(item[1]), item[0]))
    remaining, listed = MAX_LISTED_IMAGES, {}
    for pair, positions in ranked:
        listed[pair] = positions[: min(MAX_CELL_IMAGES, remaining)]
        remaining -= len(listed[pair])
    chosen = [position for positions in listed.values() for position in positions]
    pixels = run.images.test_images(wrong.indices[chosen])
    if pixels is None:
        return None
    ink = is_ink(pixels)
    pictures = {position: to_data_uri(pixels[k : k + 1], ink=ink) for k, position in enumerate(chosen)}
    cells = {
        (true, predicted): MistakeCell(
            f"{anchor}-{true}-as-{predicted}",
            labels[true],
            labels[predicted],
            len(kinds[true, predicted]),
            tuple(
                MistakeImage(int(wrong.indices[i]), pictures[i], float(wrong.confidence[i]))
                for i in positions
            ),
        )
        for (true, predicted), positions in listed.items()
        if positions
    }
    rows = tuple(
        tuple(
            (wrong.hits[i] if i == j else len(kinds.get((i, j), ())), cells.get((i, j)))
            for j in range(len(labels))
        )
        for i in range(len(labels))
    )
    return MistakeMatrix(labels, rows, tuple(cells.values()), ink, wrong.images)

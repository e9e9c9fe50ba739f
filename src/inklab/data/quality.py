"""Is this data set all right? What to know before training on it."""

import hashlib
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from jaxtyping import Bool, Float64

from inklab.data.dataset import Dataset, ImageSet, Split
from inklab.shapes import Pixels

EXAMPLES = 5  # places that are named of whatever was found
MIN_CLASS_IMAGES = 10  # training images; a class with fewer can hardly be learnt
MAX_CLASS_RATIO = 10.0  # largest over smallest class; beyond it accuracy says little
ImageRef = tuple[str, int]


@dataclass(frozen=True)
class DataIssue:
    """Something that images share: how many, and the first few, as (set, place in it)."""

    count: int
    examples: tuple[ImageRef, ...]


@dataclass(frozen=True)
class DataReport:
    """What `check_data` found.

    Args:
        source: the data set's.
        sha256: the data set's.
        shape: channels, height, width.
        labels: the names of the classes.
        counts: per set, images of each class.
        balance: largest over smallest class of the training images; null if a class has none.
        repeated: per set, images that equal an earlier one of the same set.
        leaked: validation and test images that equal a training image.
        conflicting: images that occur with different labels.
        constant: images of one value only.
        inverted: grey images whose border is light where most images' is dark, or the other way round.
        remarks: what a person should know, as sentences; empty if all is well.
    """

    source: str
    sha256: str
    shape: tuple[int, int, int]
    labels: tuple[str, ...]
    counts: dict[str, list[int]]
    balance: float | None
    repeated: dict[str, DataIssue]
    leaked: DataIssue
    conflicting: DataIssue
    constant: DataIssue
    inverted: DataIssue
    remarks: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        """The report by field, as JSON can hold it."""
        return asdict(self)


def check_data(dataset: Dataset, split: Split | None = None) -> DataReport:
    """Look for what spoils a study: uneven classes, repeated, leaked and odd images.

    Images are the same if all their bytes are. Costs about a second for MNIST.

    Args:
        dataset: what to look at.
        split: look at its three sets, rather than at the data set's two.

    Example:
        >>> from inklab.data.preprocessing import Preprocessing
        >>> images = ImageSet(np.eye(4, dtype=np.uint8).reshape(4, 1, 2, 2), np.array([0, 1, 0, 1]))
        >>> report = check_data(Dataset("tiny", images, images, ("a", "b"), Preprocessing.plain((1, 2, 2))))
        >>> report.leaked.count, report.balance
        (4, 1.0)
    """
    sets = {"train": dataset.train, "test": dataset.test}
    if split is not None:
        sets = {"train": split.train, "validation": split.validation, "test": split.test}
    places = _places_by_content(sets)
    counts = {name: images.counts(len(dataset.labels)) for name, images in sets.items()}
    found: dict[str, Any] = {
        "repeated": {name: _finding(_repeats(places, name)) for name in sets},
        "leaked": _finding(_leaks(places)),
        "conflicting": _finding(_conflicts(places, sets)),
        "constant": _finding(_where(sets, _is_constant)),
        "inverted": _finding(_inverted(sets)),
    }
    smallest = min(counts["train"])
    return DataReport(
        source=dataset.source,
        sha256=dataset.sha256,
        shape=dataset.shape,
        labels=dataset.labels,
        counts=counts,
        balance=max(counts["train"]) / smallest if smallest else None,
        remarks=(*_on_classes(dataset.labels, counts), *_on_images(found)),
        **found,
    )


def _places_by_content(sets: Mapping[str, ImageSet]) -> list[list[ImageRef]]:
    """The places of each picture that occurs more than once, in the order of the sets."""
    places: defaultdict[bytes, list[ImageRef]] = defaultdict(list)
    for name, images in sets.items():
        for place, image in enumerate(images.pixels):
            # A digest in place of the bytes: a fortieth of the memory, and no two images share one by chance.
            places[hashlib.blake2b(image.tobytes(), digest_size=16).digest()].append((name, place))
    return [same for same in places.values() if len(same) > 1]


def _repeats(places: list[list[ImageRef]], name: str) -> list[ImageRef]:
    return [place for same in places for place in [place for place in same if place[0] == name][1:]]


def _leaks(places: list[list[ImageRef]]) -> list[ImageRef]:
    trained = [same for same in places if same[0][0] == "train"]  # training comes first
    return [place for same in trained for place in same if place[0] != "train"]


def _conflicts(places: list[list[ImageRef]], sets: Mapping[str, ImageSet]) -> list[ImageRef]:
    return [
        place
        for same in places
        if len({int(sets[name].labels[at]) for name, at in same}) > 1
        for place in same
    ]


def _where(sets: Mapping[str, ImageSet], test: Any) -> list[ImageRef]:
    return [(name, int(at)) for name, images in sets.items() for at in np.flatnonzero(test(images.pixels))]


def _is_constant(pixels: Pixels) -> Bool[np.ndarray, " n"]:
    flat = pixels.reshape(len(pixels), -1)
    return np.asarray(flat.min(axis=1) == flat.max(axis=1))


def _light_border(pixels: Pixels) -> Float64[np.ndarray, " n"]:
    """The share of each image's border that is light."""
    border = np.ones(pixels.shape[1:], bool)
    border[:, 1:-1, 1:-1] = False
    return np.asarray((pixels[:, border] > 127).mean(axis=1))


def _inverted(sets: Mapping[str, ImageSet]) -> list[ImageRef]:
    if sets["train"].shape[0] != 1:
        return []  # colour photographs have no ground
    if np.median(_light_border(sets["train"].pixels)) > 0.5:
        return _where(sets, lambda pixels: _light_border(pixels) < 0.25)
    return _where(sets, lambda pixels: _light_border(pixels) > 0.75)


def _finding(places: list[ImageRef]) -> DataIssue:
    return DataIssue(len(places), tuple(places[:EXAMPLES]))


def _on_classes(labels: tuple[str, ...], counts: Mapping[str, list[int]]) -> list[str]:
    remarks = []
    for name in ("train", "test"):
        missing = [label for label, count in zip(labels, counts[name], strict=True) if not count]
        if missing:
            remarks.append(f"The {name} set has no image of {_listed(missing)}.")
    few = [
        label for label, count in zip(labels, counts["train"], strict=True) if 0 < count < MIN_CLASS_IMAGES
    ]
    if few:
        remarks.append(f"Fewer than {MIN_CLASS_IMAGES} training images have {_listed(few)}.")
    used = [count for count in counts["train"] if count]
    if max(used) > MAX_CLASS_RATIO * min(used):
        remarks.append(
            f"The largest class has {max(used) / min(used):.0f} times the training images of the smallest: "
            "look at each class, not at accuracy alone."
        )
    return remarks


def _listed(names: list[str]) -> str:
    rest = f" and {len(names) - EXAMPLES} more" if len(names) > EXAMPLES else ""
    return f"the class{'es' if len(names) > 1 else ''} {', '.join(map(repr, names[:EXAMPLES]))}{rest}"


def _on_images(found: Mapping[str, Any]) -> list[str]:
    remarks = [
        f"{finding.count} image(s) of the {name} set repeat an earlier one."
        for name, finding in found["repeated"].items()
        if finding.count
    ]
    sentences = {
        "leaked": "{} image(s) held out also lie in the training set: scores on them are too good.",
        "conflicting": "{} image(s) occur with different labels: at least some labels are wrong.",
        "constant": "{} image(s) have one value only.",
        "inverted": "{} image(s) have a light ground where most have a dark one, or the other way round.",
    }
    return remarks + [text.format(found[key].count) for key, text in sentences.items() if found[key].count]

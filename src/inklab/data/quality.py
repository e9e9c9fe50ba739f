"""Checks of a dataset before training on it: imbalance, duplicates, leakage and other issues."""

import hashlib
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence

import numpy as np
from jaxtyping import Bool, Float64
from PIL import Image

from inklab.data.dataset import Dataset, ImageSet, Pixels, Split
from inklab.data.image_layout import DIGITS
from inklab.data.sources import datasets
from inklab.format import join_words, pluralize
from inklab.records.data_report import INVERTED, DataIssue, DataReport, ImageRef

MAX_EXAMPLES = 5
MIN_CLASS_IMAGES = 10  # training images; a class with fewer can hardly be learned
MAX_CLASS_RATIO = 10.0  # largest over smallest class; beyond it accuracy says little
MAX_BLACK = 16  # of 255: images without a larger value are nearly black; binary ones have 1, 8x8 digits 16
MAX_BLACK_SHARE = 0.5  # of the images of a set; more nearly black ones than that are probably a mistake
MEAN_IMAGES = 500  # of a class, for its mean
MIN_LIKENESS, MIN_LEAD = 0.6, 0.2  # correlation of class means with MNIST's: of upright digits above 0.9
MAX_LEAK = 0.5  # share of the test images that are training images; beyond it the test set tests nothing

ClassMeans = Float64[np.ndarray, "10 28 28"]
ORIENTATIONS: dict[str, Callable[[ClassMeans], ClassMeans]] = {
    "upright": lambda images: images,
    "transposed (rows and columns exchanged)": lambda images: images.swapaxes(1, 2),
    "turned by a quarter clockwise": lambda images: np.rot90(images, 1, (1, 2)),
    "turned by a quarter counterclockwise": lambda images: np.rot90(images, -1, (1, 2)),
    "upside down": lambda images: np.rot90(images, 2, (1, 2)),
    "mirrored left to right": lambda images: images[:, :, ::-1],
}


def check_data(dataset: Dataset, split: Split | None = None) -> DataReport:
    """Look for what makes results wrong: imbalanced classes, duplicates, leakage and unusual images.

    Images are equal if all their bytes are. Checks the sets of a split, else of the dataset. Takes about
    a second for MNIST.

    Example:
        >>> from inklab.records.components import Preprocessing
        >>> images = ImageSet(np.eye(4, dtype=np.uint8).reshape(4, 1, 2, 2), np.array([0, 1, 0, 1]))
        >>> tiny = Dataset("tiny", images, images, ("a", "b"), Preprocessing.resize_only((1, 2, 2)))
        >>> report = check_data(tiny)
        >>> report.train_test_overlap.count, report.balance
        (4, 1.0)
    """
    parts = split or dataset
    known = {"train": parts.train, "validation": parts.validation, "test": parts.test}
    sets = {name: images for name, images in known.items() if images is not None}
    equal = _group_equal(sets)
    # The training set comes first, so a group without it in front has no training image.
    held_out = [ref for group in equal if group[0][0] == "train" for ref in group if ref[0] != "train"]
    counts = {name: images.counts(len(dataset.labels)) for name, images in sets.items()}
    smallest = min(counts["train"])
    report = DataReport(
        dataset=dataset.name,
        sha256=dataset.sha256,
        shape=dataset.shape,
        labels=dataset.labels,
        counts=counts,
        largest_value=int(sets["train"].pixels.max()),
        leaked_test_images=sum(name == "test" for name, _ in held_out),
        balance=max(counts["train"]) / smallest if smallest else None,
        duplicates={
            name: _issue([ref for group in equal for ref in [ref for ref in group if ref[0] == name][1:]])
            for name in sets
        },
        train_test_overlap=_issue(held_out),
        label_conflicts=_issue(_conflicts(equal, sets)),
        constant_images=_issue(_where(sets, _is_constant)),
        inverted_polarity=_issue(_inverted(sets)),
    )
    black_problems, black_notes = _nearly_black(sets)
    problems = (*black_problems, *_problems(report))
    notes = (
        *black_notes,
        *_notes_on_classes(report),
        *_notes_on_images(report),
        *_notes_on_orientation(dataset),
    )
    return report.model_copy(update={"problems": problems, "notes": notes})


def _group_equal(sets: Mapping[str, ImageSet]) -> list[list[ImageRef]]:
    """All references to each image that occurs more than once, in the order of the sets."""
    groups: defaultdict[bytes, list[ImageRef]] = defaultdict(list)
    for name, images in sets.items():
        for index, image in enumerate(images.pixels):
            # A digest takes a fortieth of the memory of the bytes, and collides for no two images.
            groups[hashlib.blake2b(image.tobytes(), digest_size=16).digest()].append((name, index))
    return [group for group in groups.values() if len(group) > 1]


def _conflicts(equal: Sequence[Sequence[ImageRef]], sets: Mapping[str, ImageSet]) -> list[ImageRef]:
    return [
        ref
        for group in equal
        if len({int(sets[name].labels[index]) for name, index in group}) > 1
        for ref in group
    ]


def _where(sets: Mapping[str, ImageSet], test: Callable[[Pixels], Bool[np.ndarray, " n"]]) -> list[ImageRef]:
    return [
        (name, int(index)) for name, images in sets.items() for index in np.flatnonzero(test(images.pixels))
    ]


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
        return []  # color photographs have no background
    if np.median(_light_border(sets["train"].pixels)) > 0.5:
        return _where(sets, lambda pixels: _light_border(pixels) < 0.25)
    return _where(sets, lambda pixels: _light_border(pixels) > 0.75)


def _issue(refs: Sequence[ImageRef]) -> DataIssue:
    return DataIssue(count=len(refs), examples=tuple(refs[:MAX_EXAMPLES]))


def _nearly_black(sets: Mapping[str, ImageSet]) -> tuple[list[str], list[str]]:
    """Problems and notes on images without light pixels, as after a second division by 255.

    One image with a single light pixel would hide the others from a look at the largest value of a set.
    """
    largest = {name: images.pixels.reshape(len(images), -1).max(axis=1) for name, images in sets.items()}
    top = int(largest["train"].max())
    if top <= MAX_BLACK:
        factor = f"multiply them by {255 // top}" if top else "look at how they were made"
        return [
            f"The training images are nearly black: their largest value is {top} of 255, as after a second "
            f"division or with pixels from 0 to {top}; {factor}."
        ], []
    problems, notes = [], []
    for name, values in largest.items():
        if not len(values):
            continue
        count, total = int((values <= MAX_BLACK).sum()), len(values)
        kind = "training" if name == "train" else name
        if count == total:
            problems.append(
                f"The {kind} images are nearly black: their largest value is {values.max()} of 255, of the "
                f"training images {top}; scale both in the same way."
            )
        elif count > MAX_BLACK_SHARE * total:
            notes.append(
                f"{count:,} of {total:,} {kind} images are nearly black (no value above {MAX_BLACK} of "
                "255), the others are not: were they scaled in the same way?"
            )
    return problems, notes


def _problems(report: DataReport) -> Iterable[str]:
    n_test = sum(report.counts["test"])
    if untrained := _classes(report, lambda train, test: test and not train):
        yield (
            f"No training image has {_name_classes(untrained)}, but test images have; add training images, "
            "or leave the test images out."
        )
    if report.leaked_test_images > MAX_LEAK * n_test:
        yield (
            f"{report.leaked_test_images:,} of {n_test:,} test images are training images, too, so test "
            "metrics say nothing of new images; give other test images."
        )


def _classes(report: DataReport, choose: Callable[[int, int], object]) -> list[str]:
    """Names of the classes whose numbers of training and test images are chosen."""
    rows = zip(report.labels, report.counts["train"], report.counts["test"], strict=True)
    return [label for label, train, test in rows if choose(train, test)]


def _notes_on_classes(report: DataReport) -> Iterable[str]:
    if nowhere := _classes(report, lambda train, test: not train and not test):
        first = " Do the labels begin at 1?" if nowhere[0] == report.labels[0] else ""
        yield f"No image at all has {_name_classes(nowhere)}.{first}"
    if untested := _classes(report, lambda train, test: train and not test):
        yield f"No test image has {_name_classes(untested)}: nothing can be said about how well it is read."
    train = report.counts["train"]
    small = [label for label, n in zip(report.labels, train, strict=True) if 0 < n < MIN_CLASS_IMAGES]
    if small:
        yield f"Fewer than {MIN_CLASS_IMAGES} training images have {_name_classes(small)}."
    ratio = max(train) / min(count for count in train if count)
    if ratio > MAX_CLASS_RATIO:
        yield (
            f"The largest class has {ratio:.0f} times as many training images as the smallest: look at "
            "recall per class, not at accuracy alone."
        )


def _name_classes(names: Sequence[str]) -> str:
    words = [repr(name) for name in names[:MAX_EXAMPLES]]
    if len(names) > MAX_EXAMPLES:
        words.append(f"{len(names) - MAX_EXAMPLES} more")
    return f"the class{'es' if len(names) > 1 else ''} {join_words(words)}"


def _notes_on_images(report: DataReport) -> Iterable[str]:
    for name, issue in report.duplicates.items():
        if issue.count:
            yield f"{pluralize(issue.count, 'duplicate')} in the {name} set."
    leak = "held out and also in the training set: metrics on the test set are too good"
    issues = (
        (report.train_test_overlap, leak),
        (report.label_conflicts, "with different labels for equal images: at least some labels are wrong"),
        (report.constant_images, "with one value only"),
        (report.inverted_polarity, INVERTED),
    )
    for issue, description in issues:
        if issue.count:
            yield f"{pluralize(issue.count, 'image')} {description}."


def _notes_on_orientation(dataset: Dataset) -> Iterable[str]:
    """Digits that lie on their side or are mirrored, as in EMNIST's own files, by the mean of each class."""
    if dataset.shape[0] != 1 or not set(DIGITS) <= set(dataset.labels):
        return
    means, reference = _class_means(dataset), _class_means(datasets["mnist-5k"].load())
    if means is None or reference is None:
        return
    turned = {name: turn(means) for name, turn in ORIENTATIONS.items()}
    likeness = {name: abs(_mean_correlation(images, reference)) for name, images in turned.items()}
    best = max(likeness, key=likeness.__getitem__)
    if likeness[best] > max(MIN_LIKENESS, likeness["upright"] + MIN_LEAD):
        advice = "Turn the arrays first, and give them to datasets.from_arrays."
        if best.startswith("transposed"):
            advice = "Set data.transpose = true (--set data.transpose=true; in Python dataset.transposed())."
        yield (
            f"The digits are {best}, as the mean image of each class shows: upright pictures will be "
            f"misread. {advice}"
        )


def _class_means(dataset: Dataset) -> ClassMeans | None:
    """The mean training image of each digit, 28 x 28; None if a digit has few images."""
    images, side = dataset.train, 28
    chosen = [np.flatnonzero(images.labels == dataset.labels.index(digit))[:MEAN_IMAGES] for digit in DIGITS]
    if min(map(len, chosen)) < MIN_CLASS_IMAGES:
        return None
    means = [images.pixels[indices, 0].mean(axis=0, dtype=np.float32) for indices in chosen]
    return np.stack([np.asarray(Image.fromarray(mean).resize((side, side)), np.float64) for mean in means])


def _mean_correlation(images: ClassMeans, reference: ClassMeans) -> float:
    pairs = zip(images, reference, strict=True)
    return float(np.mean([np.corrcoef(a.reshape(-1), b.reshape(-1))[0, 1] for a, b in pairs]))

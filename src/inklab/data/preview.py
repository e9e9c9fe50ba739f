"""A dataset in a notebook: its classes, their sizes, and a few images of each, as one piece of HTML."""

from collections.abc import Iterable
from html import escape

import numpy as np

from inklab.data.dataset import Dataset, ImageSet, Pixels
from inklab.notebook import png_data_uri

MAX_ROWS = 20  # classes shown
IMAGES_PER_CLASS = 10
IMAGE_HEIGHT = 28  # pixels of the page
LEFT = "style='text-align:left'"
GAP = 1  # pixels of an image between two


def dataset_html(dataset: Dataset) -> str:
    """HTML without scripts or styles of its own: safe whatever the names are, and in any theme.

    Example:
        >>> from inklab.data.sources import load_dataset
        >>> html = dataset_html(load_dataset("mnist-5k"))
        >>> html.count("data:image/png;base64,"), "4,000 training" in html
        (10, True)
    """
    sets = {"train": dataset.train, "validation": dataset.validation, "test": dataset.test}
    counts = {name: images.counts(len(dataset.labels)) for name, images in sets.items() if images}
    rows = [
        f"<tr><td {LEFT}>{escape(label)}</td>{_cells(of[number] for of in counts.values())}"
        f"<td {LEFT}>{_strip(dataset, number)}</td></tr>"
        for number, label in enumerate(dataset.labels[:MAX_ROWS])
    ]
    hidden = len(dataset.labels) - len(rows)
    if hidden:
        more = _cells(sum(of[MAX_ROWS:]) for of in counts.values())
        rows.append(f"<tr><td {LEFT}>{hidden:,} more</td>{more}<td></td></tr>")
    names = "".join(f"<th>{name}</th>" for name in counts)
    note = f"<p>{escape(dataset.note)}</p>" if dataset.note else ""
    return (
        f"<div><p><strong>{escape(dataset.name)}</strong>: {escape(dataset.summary)}</p>{note}"
        f"<table><thead><tr><th {LEFT}>class</th>{names}<th></th></tr></thead>"
        f"<tbody>{''.join(rows)}</tbody></table></div>"
    )


def _cells(counts: Iterable[int]) -> str:
    return "".join(f"<td>{count:,}</td>" for count in counts)


def _strip(dataset: Dataset, number: int) -> str:
    """The first images of a class side by side, as an inline PNG; "" if it has none."""
    pixels = _first_images(dataset.train, number)
    if not len(pixels):
        pixels = _first_images(dataset.test, number)
    if not len(pixels):
        return ""
    padded = np.pad(pixels, ((0, 0), (0, 0), (0, 0), (0, GAP)), constant_values=255)
    strip = np.concatenate(list(padded), axis=2)[..., :-GAP].transpose(1, 2, 0)
    return (
        f"<img alt='{len(pixels)} images of {escape(dataset.labels[number])}' "
        f"style='height:{IMAGE_HEIGHT}px;max-width:none;image-rendering:pixelated' "
        f"src='{png_data_uri(strip)}'>"
    )


def _first_images(images: ImageSet, number: int) -> Pixels:
    return images.pixels[np.flatnonzero(images.labels == number)[:IMAGES_PER_CLASS]]

"""From what was chosen to what is exported: bundles are loaded, real images looked for."""

from collections.abc import Collection

import numpy as np

from inklab.bundle import Bundle
from inklab.corrupt.filters import filters
from inklab.errors import DataError
from inklab.export.choosing import Chosen, Place
from inklab.export.networks import Cleaner, Exportable, decoder, network, pipeline
from inklab.study.view import StoredRun


def load(chosen: Chosen, *, trusted: Collection[str] = ()) -> Exportable:
    """Load the networks that were chosen.

    Args:
        chosen: which.
        trusted: code of one's own that may be run.

    Raises:
        InklabError: what `Bundle.load` raises, or the parts don't fit each other.
    """
    *cleaners, last = chosen.parts
    bundle = _bundle(last, trusted)
    if cleaners:
        return pipeline([(_part(each, trusted), each.name) for each in cleaners], (bundle, last.name))
    return (decoder if chosen.half else network)(bundle, last.name)


def real_images(chosen: Chosen, source: str | None = None) -> np.ndarray | None:
    """Images to compare on: test images of a source, if one is named, else those that the run keeps.

    Raises:
        DataError: the source can't be had, or its images have another shape.
    """
    shape = _shape(chosen)
    if source is None:
        found = StoredRun(chosen.run).samples() if chosen.run else None
        return None if found is None or list(found[0].shape[1:]) != shape else found[0]
    from inklab.data.source import load as load_source

    pixels = load_source(source).test.pixels
    if list(pixels.shape[1:]) != shape:
        raise DataError(
            f"'{source}' has images of {tuple(pixels.shape[1:])}, the network takes {tuple(shape)}"
        )
    return pixels


def _shape(chosen: Chosen) -> list[int]:
    from inklab.files import read_json

    folder = chosen.parts[-1].folder
    assert folder is not None
    found: list[int] = read_json(folder / "bundle.json")["shape"]
    return found


def _part(place: Place, trusted: Collection[str]) -> Cleaner:
    return filters[place.name] if place.folder is None else _bundle(place, trusted)


def _bundle(place: Place, trusted: Collection[str]) -> Bundle:
    assert place.folder is not None
    return Bundle.load(place.folder, trusted=trusted)

"""Ink on paper: told from its ground, whatever the light, in brightness from 0 to 255."""

import numpy as np
from jaxtyping import Bool, Float64
from PIL import Image, ImageFilter

from inklab.errors import DataError

Plane = Float64[np.ndarray, "h w"]
WORKING_SIDE = 560  # pixels, 20 for each pixel of an MNIST digit's box; more costs time and adds nothing
LEAST_CONTRAST = 0.12  # of the range from ground to full ink; paper's own texture stays below
LEAST_SIGMAS = 4.0  # ink must stand out this far; halves of pure Gaussian noise differ by 1.6


def find_ink(grey: Plane) -> Plane:
    """How much ink lies on each pixel: 0 on the ground, 1 in the middle of a stroke.

    The ground is estimated from the border, then as a smooth surface from all that isn't ink, so a shadow across the page
    does no harm. Ink is what departs from it most, towards dark or light; Otsu's threshold finds it.

    Args:
        grey: brightness from 0 to 255, of any size.

    Returns:
        Ink in [0, 1]; reduced in size if the picture was large.

    Raises:
        DataError: nothing stands out from the ground.
    """
    grey = _reduced(grey)
    ink = _departure(grey, _ground(grey))
    calm = _despeckled(ink)
    threshold = _otsu(calm)
    strong = calm > threshold
    noise = _spread(ink[~strong])
    _refuse_empty(ink, strong, noise)
    full = np.quantile(ink[strong], 0.9)  # the middle of strokes, not their brightest speck
    floor = min(3 * noise, threshold)
    near = _grown(strong, reach=max(1, max(grey.shape) // 64))
    return np.where(near, np.clip((ink - floor) / (full - floor), 0, 1), 0.0)


def _reduced(grey: Plane) -> Plane:
    longest = max(grey.shape)
    if longest <= WORKING_SIDE:
        return grey
    height, width = (max(1, round(side * WORKING_SIDE / longest)) for side in grey.shape)
    picture = Image.fromarray(grey.astype(np.float32))
    return np.asarray(picture.resize((width, height), Image.Resampling.BOX), np.float64)


def _ground(grey: Plane) -> Plane:
    """A smooth surface through the ground: a plane through the border, then a quadratic through all that is near it."""
    height, width = grey.shape
    y, x = np.mgrid[-1 : 1 : height * 1j, -1 : 1 : width * 1j]
    terms = np.stack([np.ones_like(x), x, y, x * y, x * x, y * y], axis=-1)
    edge = max(1, min(height, width) // 20)
    near = np.ones(grey.shape, bool)
    near[edge : height - edge, edge : width - edge] = False
    surface = np.full(grey.shape, np.median(grey[near]))
    for count in (1, 3, 6, 6):
        rest = grey - surface
        # 12: a third of what is called ink at least, several times a sensor's noise
        inlier = np.abs(rest) <= max(12.0, 3 * _spread(rest[near]))
        use = inlier & near if count < 6 else inlier
        if use.sum() < 4 * count:
            break
        weights, *_ = np.linalg.lstsq(terms[use][:, :count], grey[use], rcond=None)
        surface = terms[..., :count] @ weights
    return np.clip(surface, 0, 255)


def _departure(grey: Plane, ground: Plane) -> Plane:
    """How far each pixel departs from its ground, in the direction that the ink takes; 1 is black on paper, white on dark."""
    lighter = (grey - ground) / np.maximum(255 - ground, 1)
    darker = (ground - grey) / np.maximum(ground, 1)
    ends = [np.quantile(_despeckled(part * room), 0.998) for part, room in ((lighter, 255 - ground), (darker, ground))]
    return np.clip(lighter if ends[0] > ends[1] else darker, 0, 1)


def _despeckled(ink: Plane) -> Plane:
    """Without single odd pixels, unless strokes are so thin that they would go too."""
    calm = np.asarray(Image.fromarray(np.uint8(np.clip(ink * 255, 0, 255))).filter(ImageFilter.MedianFilter(3)))
    calm = calm / 255.0
    return calm if calm.sum() >= 0.8 * ink.sum() else ink


def _otsu(ink: Plane) -> float:
    """The threshold that separates two groups of brightness best (Otsu 1979)."""
    counts, edges = np.histogram(ink, bins=256, range=(0.0, 1.0))
    below = np.cumsum(counts)[:-1].astype(float)
    above = below[-1] + counts[-1] - below
    total = np.cumsum(counts * np.arange(256))
    gap = total[:-1] / np.maximum(below, 1) - (total[-1] - total[:-1]) / np.maximum(above, 1)
    between = below * above * gap**2
    best = np.flatnonzero(between == between.max())  # a plateau between two groups: take its middle
    return float(edges[1 + best[len(best) // 2]])


def _spread(values: Float64[np.ndarray, " n"]) -> float:
    """A standard deviation that some ink among the values doesn't change: 1.4826 times the median deviation."""
    return 1.4826 * float(np.median(np.abs(values - np.median(values)))) if len(values) else 0.0


def _refuse_empty(ink: Plane, strong: Bool[np.ndarray, "h w"], noise: float) -> None:
    contrast = float(ink[strong].mean() - ink[~strong].mean()) if 0 < strong.sum() < strong.size else 0.0
    if contrast < max(LEAST_CONTRAST, LEAST_SIGMAS * noise):
        raise DataError(
            f"no ink is to be seen in the picture (contrast {contrast:.2f} of 1, noise {noise:.2f}); "
            "give one with a clear sign on an even ground"
        )


def _grown(mask: Bool[np.ndarray, "h w"], reach: int) -> Bool[np.ndarray, "h w"]:
    picture = Image.fromarray(np.uint8(mask) * 255)
    return np.asarray(picture.filter(ImageFilter.MaxFilter(2 * reach + 1))) > 0

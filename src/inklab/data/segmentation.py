"""Ink on paper: told from its ground, whatever the light, in brightness from 0 to 255."""

import numpy as np
from jaxtyping import Bool, Float64
from PIL import Image, ImageFilter

from inklab.errors import DataError

Plane = Float64[np.ndarray, "h w"]
Reduced = Float64[np.ndarray, "a b"]
WORKING_SIDE = 560  # pixels, 20 for each pixel of an MNIST digit's box; more costs time and adds nothing
GROUND_SIDE = 112  # pixels; light and shadow are smooth
MIN_CONTRAST = 0.12  # of the range from ground to full ink; paper's own texture stays below
MIN_SIGMAS = 4.0  # ink must stand out this far; halves of pure Gaussian noise differ by 1.6


def find_foreground(grey: Plane) -> Reduced:
    """How much ink lies on each pixel: 0 on the ground, 1 in the middle of a stroke.

    The ground is estimated from the border, then as a smooth surface from all that isn't ink, so a shadow
    across the page does no harm. Ink is what departs from it most, towards dark or light; Otsu's threshold
    finds it.

    Args:
        grey: brightness from 0 to 255, of any size.

    Returns:
        Ink in [0, 1]; reduced in size if the picture was large.

    Raises:
        DataError: nothing stands out from the ground.
    """
    small = _reduced(grey, WORKING_SIDE)
    departure = _departure(small, _ground(small))
    ink, noise = np.clip(departure, 0, 1), _noise(departure)
    calm = _despeckled(ink)
    threshold = _otsu(calm)
    strong = calm > threshold
    _refuse_empty(ink, strong, noise)
    full = np.quantile(ink[strong], 0.9)  # the middle of strokes, not their brightest speck
    floor = min(3 * noise, threshold)
    near = _grown(strong, reach=max(1, max(small.shape) // 64))
    return np.where(near, np.clip((ink - floor) / (full - floor), 0, 1), 0.0)


def _reduced(grey: Plane, most: int) -> Reduced:
    longest = max(grey.shape)
    if longest <= most:
        return grey
    height, width = (max(1, round(side * most / longest)) for side in grey.shape)
    picture = Image.fromarray(grey.astype(np.float32))
    return np.asarray(picture.resize((width, height), Image.Resampling.BOX), np.float64)


def _ground(grey: Plane) -> Plane:
    """A smooth surface through the ground, fitted to a reduced picture: it has no detail."""
    coefficients = _fit_ground(_reduced(grey, GROUND_SIDE))
    surface: Plane = _terms(grey.shape)[..., : len(coefficients)] @ coefficients
    return np.asarray(np.clip(surface, 0, 255))


def _terms(shape: tuple[int, ...]) -> Float64[np.ndarray, "h w 6"]:
    height, width = shape
    y, x = np.mgrid[-1 : 1 : height * 1j, -1 : 1 : width * 1j]
    return np.stack([np.ones_like(x), x, y, x * y, x * x, y * y], axis=-1)


def _fit_ground(grey: Plane) -> Float64[np.ndarray, " terms"]:
    """A constant and a plane through the border, then a quadratic surface through all that lies near it."""
    terms = _terms(grey.shape)
    edge = max(1, min(grey.shape) // 20)
    border = np.ones(grey.shape, bool)
    border[edge:-edge, edge:-edge] = False
    coefficients = np.array([np.median(grey[border])])
    for count, where in ((1, border), (3, border), (6, np.ones_like(border)), (6, np.ones_like(border))):
        rest = grey - terms[..., : len(coefficients)] @ coefficients
        # 12 of 255: well below faint ink, several times the noise of a reduced picture
        use = where & (np.abs(rest) <= max(12.0, 3 * _spread(rest[border])))
        if use.sum() < 4 * count:
            break
        known = terms[use][:, :count]
        # Normal equations: twenty times faster than on all pixels, and well conditioned for terms in [-1, 1].
        coefficients, *_ = np.linalg.lstsq(known.T @ known, known.T @ grey[use], rcond=None)
    return coefficients


def _departure(grey: Plane, ground: Plane) -> Plane:
    """How far a pixel departs from its ground, as the ink does; 1 is black on paper, white on dark."""
    rest = (grey - ground) / 255
    faint = MIN_CONTRAST / 2 + 3 * _spread(rest)
    lighter, darker = (np.maximum(_despeckled(part) - faint, 0).sum() for part in (rest, -rest))
    room = 255 - ground if lighter > darker else -ground
    departure: Plane = (grey - ground) / np.where(np.abs(room) < 1, 1, room)
    return departure


def _noise(departure: Plane) -> float:
    """The standard deviation of the ground, from what departs the other way than ink: ink doesn't blur it."""
    away = -departure[departure < 0]
    share = min(1.0, 2 * away.size / departure.size)  # a few odd pixels are no noise
    return share * 1.4826 * float(np.median(away)) if away.size else 0.0


def _despeckled(ink: Plane) -> Plane:
    """Without single odd pixels, unless strokes are so thin that they would go too."""
    ink = np.clip(ink, 0, 1)
    picture = Image.fromarray(np.uint8(ink * 255)).filter(ImageFilter.MedianFilter(3))
    calm = np.asarray(picture) / 255.0
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


def _spread(values: Float64[np.ndarray, "..."]) -> float:
    """A standard deviation that some ink among the values doesn't move: 1.4826 median deviations."""
    return 1.4826 * float(np.median(np.abs(values - np.median(values)))) if values.size else 0.0


def _refuse_empty(ink: Plane, strong: Bool[np.ndarray, "h w"], noise: float) -> None:
    contrast = float(ink[strong].mean() - ink[~strong].mean()) if 0 < strong.sum() < strong.size else 0.0
    if contrast < max(MIN_CONTRAST, MIN_SIGMAS * noise):
        raise DataError(
            f"no ink is to be seen in the picture (contrast {contrast:.2f} of 1, noise {noise:.2f}); "
            "give one with a clear sign on an even ground"
        )


def _grown(mask: Bool[np.ndarray, "h w"], reach: int) -> Bool[np.ndarray, "h w"]:
    picture = Image.fromarray(np.uint8(mask) * 255)
    return np.asarray(picture.filter(ImageFilter.MaxFilter(2 * reach + 1))) > 0

"""Segmentation of ink from its background, robust to uneven light; brightness goes from 0 to 255."""

import numpy as np
from jaxtyping import Bool, Float64
from PIL import Image, ImageFilter

from inklab.errors import DataError

Plane = Float64[np.ndarray, "h w"]
Reduced = Float64[np.ndarray, "a b"]
WORKING_SIDE = 560  # pixels, 20 per pixel of an MNIST digit's bounding box; more takes longer without gain
BACKGROUND_SIDE = 112  # pixels; light and shadow are smooth
MIN_CONTRAST = 0.12  # of the range from background to full ink; the texture of paper is below
MIN_SIGMAS = 4.0  # ink must stand out this far; halves of pure Gaussian noise differ by 1.6


def find_foreground(gray: Plane) -> Reduced:
    """How much ink is on each pixel: 0 on the background, 1 in the middle of a stroke.

    The background is estimated from the border, then as a smooth surface through all pixels that are not ink,
    so a shadow across the page does not matter. Ink is what differs most from it, darker or lighter, beyond
    Otsu's threshold.

    Args:
        gray: brightness from 0 to 255, of any size.

    Returns:
        Ink in [0, 1]; downscaled if the picture was large.

    Raises:
        DataError: nothing differs enough from the background.
    """
    small = _reduce(gray, WORKING_SIDE)
    difference = _difference(small, _background(small))
    ink, noise = np.clip(difference, 0, 1), _noise(difference)
    despeckled = _despeckle(ink)
    threshold = _otsu(despeckled)
    strong = despeckled > threshold
    _check_contrast(ink, strong, noise)
    full = np.quantile(ink[strong], 0.9)  # the middle of strokes, not their brightest pixel
    empty = min(3 * noise, threshold)
    near = _dilate(strong, reach=max(1, max(small.shape) // 64))
    return np.where(near, np.clip((ink - empty) / (full - empty), 0, 1), 0.0)


def _reduce(gray: Plane, max_side: int) -> Reduced:
    longest = max(gray.shape)
    if longest <= max_side:
        return gray
    height, width = (max(1, round(side * max_side / longest)) for side in gray.shape)
    picture = Image.fromarray(gray.astype(np.float32))
    return np.asarray(picture.resize((width, height), Image.Resampling.BOX), np.float64)


def _background(gray: Plane) -> Plane:
    """A smooth surface through the background, fitted to a downscaled picture, since it has no detail."""
    coefficients = _fit_background(_reduce(gray, BACKGROUND_SIDE))
    surface: Plane = _terms(gray.shape)[..., : len(coefficients)] @ coefficients
    return np.asarray(np.clip(surface, 0, 255))


def _terms(shape: tuple[int, ...]) -> Float64[np.ndarray, "h w 6"]:
    height, width = shape
    y, x = np.mgrid[-1 : 1 : height * 1j, -1 : 1 : width * 1j]
    return np.stack([np.ones_like(x), x, y, x * y, x * x, y * y], axis=-1)


def _fit_background(gray: Plane) -> Float64[np.ndarray, " terms"]:
    """A constant and a plane through the border, then a quadratic surface through all pixels near it."""
    terms = _terms(gray.shape)
    edge = max(1, min(gray.shape) // 20)
    border = np.ones(gray.shape, bool)
    border[edge:-edge, edge:-edge] = False
    coefficients = np.array([np.median(gray[border])])
    for count, where in ((1, border), (3, border), (6, np.ones_like(border)), (6, np.ones_like(border))):
        residual = gray - terms[..., : len(coefficients)] @ coefficients
        # 12 of 255: well below faint ink, several times the noise of a downscaled picture
        use = where & (np.abs(residual) <= max(12.0, 3 * _robust_std(residual[border])))
        if use.sum() < 4 * count:
            break
        x = terms[use][:, :count]
        # Normal equations: twenty times faster than on all pixels, and well conditioned for terms in [-1, 1].
        coefficients, *_ = np.linalg.lstsq(x.T @ x, x.T @ gray[use], rcond=None)
    return coefficients


def _difference(gray: Plane, background: Plane) -> Plane:
    """How much a pixel differs from its background, in the direction of ink; 1 is full ink."""
    residual = (gray - background) / 255
    faint = MIN_CONTRAST / 2 + 3 * _robust_std(residual)
    lighter, darker = (np.maximum(_despeckle(part) - faint, 0).sum() for part in (residual, -residual))
    range_to_ink = 255 - background if lighter > darker else -background
    difference: Plane = (gray - background) / np.where(np.abs(range_to_ink) < 1, 1, range_to_ink)
    return difference


def _noise(difference: Plane) -> float:
    """The standard deviation of the background, from pixels that differ in the direction opposite to ink."""
    opposite = -difference[difference < 0]
    share = min(1.0, 2 * opposite.size / difference.size)  # a few outliers are not noise
    return share * 1.4826 * float(np.median(opposite)) if opposite.size else 0.0


def _despeckle(ink: Plane) -> Plane:
    """Remove single pixels, unless strokes are so thin that they would be removed too."""
    ink = np.clip(ink, 0, 1)
    picture = Image.fromarray(np.uint8(ink * 255)).filter(ImageFilter.MedianFilter(3))
    filtered = np.asarray(picture) / 255.0
    return filtered if filtered.sum() >= 0.8 * ink.sum() else ink


def _otsu(ink: Plane) -> float:
    """The threshold that best separates two groups of brightness (Otsu 1979)."""
    counts, edges = np.histogram(ink, bins=256, range=(0.0, 1.0))
    below = np.cumsum(counts)[:-1].astype(float)
    above = below[-1] + counts[-1] - below
    total = np.cumsum(counts * np.arange(256))
    gap = total[:-1] / np.maximum(below, 1) - (total[-1] - total[:-1]) / np.maximum(above, 1)
    between = below * above * gap**2
    best = np.flatnonzero(between == between.max())  # the middle of a plateau between two groups
    return float(edges[1 + best[len(best) // 2]])


def _robust_std(values: Float64[np.ndarray, "..."]) -> float:
    """A standard deviation that some ink among the values does not change: 1.4826 median deviations."""
    return 1.4826 * float(np.median(np.abs(values - np.median(values)))) if values.size else 0.0


def _check_contrast(ink: Plane, strong: Bool[np.ndarray, "h w"], noise: float) -> None:
    contrast = float(ink[strong].mean() - ink[~strong].mean()) if 0 < strong.sum() < strong.size else 0.0
    if contrast < max(MIN_CONTRAST, MIN_SIGMAS * noise):
        raise DataError(
            f"no ink is detected in the picture (contrast {contrast:.2f} of 1, noise {noise:.2f}); use one "
            "with clear strokes on an even background"
        )


def _dilate(mask: Bool[np.ndarray, "h w"], reach: int) -> Bool[np.ndarray, "h w"]:
    picture = Image.fromarray(np.uint8(mask) * 255)
    return np.asarray(picture.filter(ImageFilter.MaxFilter(2 * reach + 1))) > 0

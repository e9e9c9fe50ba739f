"""Strips and grids of images, pixel by pixel, not smoothed."""

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

import numpy as np
from jaxtyping import UInt8

from inklab.report.figures.drawing import open_svg
from inklab.report.figures.palette import PLACEHOLDER

FULL_WIDTH = 475.0  # units, as in the plots
MAX_TILE = 40.0  # units per image
LINE_HEIGHT = 11.0  # units per line of small print
GAP = 2  # pixels between two images


@dataclass(frozen=True)
class ImageRow:
    """One row of images with a name on its left.

    Attributes:
        label: its name; a second line may follow after a newline.
        pixels: `(m, c, h, w)` bytes.
        captions: a short line below each image, or nothing.
        is_last: whether a group of rows ends here, with a wider gap below.
    """

    label: str
    pixels: UInt8[np.ndarray, "m c h w"]
    captions: Sequence[str] = ()
    is_last: bool = False


def is_ink(pixels: UInt8[np.ndarray, "m c h w"]) -> bool:
    """Whether images are light strokes on a dark ground, so that they can be drawn as ink on paper."""
    return pixels.shape[1] == 1 and pixels.size > 0 and float(pixels.mean()) < 100


def to_data_uri(pixels: UInt8[np.ndarray, "m c h w"], gap: int = GAP, *, ink: bool = False) -> str:
    """Images side by side as one PNG in a data URI.

    Args:
        pixels: `(m, c, h, w)` bytes; one channel is gray, three are red, green and blue.
        gap: pixels between two images, transparent.
        ink: draw the value as opacity of black, so that the page's background shows through.

    Example:
        >>> to_data_uri(np.zeros((2, 1, 4, 4), np.uint8))[:22]
        'data:image/png;base64,'
    """
    from PIL import Image

    m, c, h, w = pixels.shape
    colors = pixels[:, :3] if c >= 3 else pixels[:, :1]
    sheet = np.zeros((h, m * w + (m - 1) * gap, 2 if c < 3 else 4), np.uint8)
    for index, image in enumerate(colors.transpose(0, 2, 3, 1)):
        tile = sheet[:, index * (w + gap) : index * (w + gap) + w]
        if ink and c < 3:
            tile[..., 1] = image[..., 0]
        else:
            tile[..., :-1], tile[..., -1] = image, 255
    file = io.BytesIO()
    Image.fromarray(sheet).save(file, format="PNG", optimize=True)
    return "data:image/png;base64," + base64.b64encode(file.getvalue()).decode("ascii")


def draw_grid(
    rows: Sequence[ImageRow], *, ink: bool, header: Sequence[str] = (), label_width: float | int = 70
) -> str:
    """A drawing of rows of images.

    Args:
        rows: from top to bottom; all images of one size.
        ink: draw them as ink on paper (see `to_data_uri`).
        header: a short line above each column, or nothing.
        label_width: units kept for the names on the left.
    """
    n_columns = max(len(row.pixels) for row in rows)
    height, width = rows[0].pixels.shape[2:]
    scale = min(MAX_TILE / width, (FULL_WIDTH - label_width) / (n_columns * (width + GAP) - GAP))
    step = (width + GAP) * scale
    first_center = label_width + width * scale / 2
    parts = [_text(first_center + i * step, LINE_HEIGHT - 3, text) for i, text in enumerate(header)]
    y = LINE_HEIGHT + 1 if header else 0.0
    for row in rows:
        parts += _draw_row(row, y, label_width, scale, ink=ink)
        y += height * scale + 3 + (LINE_HEIGHT if row.captions else 0)
        y += 8 if row.is_last and row is not rows[-1] else 0
    total_width = max(label_width + n_columns * step - GAP * scale, FULL_WIDTH)
    return f"{open_svg(f'0 0 {total_width:.1f} {y:.1f}')}{''.join(parts)}</svg>"


def _draw_row(
    row: ImageRow, y: float | int, left: float | int, scale: float | int, *, ink: bool
) -> list[str]:
    n, _, height, width = row.pixels.shape
    parts = []
    if n:
        total_width = (n * (width + GAP) - GAP) * scale
        parts.append(
            f'<image class="{"ink" if ink else "photo"}" x="{left:.1f}" y="{y:.1f}" '
            f'width="{total_width:.1f}" height="{height * scale:.1f}" '
            f'preserveAspectRatio="none" style="image-rendering: pixelated" '
            f'href="{to_data_uri(row.pixels, ink=ink)}"/>'
        )
    lines = row.label.split("\n")
    baseline = y + height * scale / 2 + 3 - (len(lines) - 1) * LINE_HEIGHT / 2
    parts += [
        _text(left - 8, baseline + i * LINE_HEIGHT, line, anchor="end", role="muted" if i else "ink")
        for i, line in enumerate(lines)
    ]
    first_center, step = left + width * scale / 2, (width + GAP) * scale
    below = y + height * scale + LINE_HEIGHT - 2
    return parts + [_text(first_center + i * step, below, text) for i, text in enumerate(row.captions)]


def _text(x: float | int, y: float | int, text: str, *, anchor: str = "middle", role: str = "muted") -> str:
    style = f"font-size: 8px; text-anchor: {anchor}; fill: {PLACEHOLDER[role]}"
    return f'<text x="{x:.1f}" y="{y:.1f}" style="{style}">{escape(text)}</text>'

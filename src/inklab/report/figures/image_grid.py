"""Pictures of images: strips and grids, as pixels, not as smoothed copies."""

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

import numpy as np
from jaxtyping import UInt8

from inklab.report.figures.drawing import open_svg
from inklab.report.figures.palette import PLACEHOLDER

FULL_WIDTH = 475.0  # units across, as in the plots
MAX_TILE = 40.0  # units a tile
LINE_HEIGHT = 11.0  # units a line of small print


@dataclass(frozen=True)
class ImageRow:
    """One row of images with a name on its left.

    Attributes:
        label: its name; may hold a second line after a newline.
        pixels: `(m, c, h, w)` bytes.
        under: a short line below each image, or nothing.
        last: whether a group of rows ends here, with a wider gap below.
    """

    label: str
    pixels: UInt8[np.ndarray, "m c h w"]
    under: Sequence[str] = ()
    last: bool = False


def is_ink(pixels: UInt8[np.ndarray, "m c h w"]) -> bool:
    """Whether images are light strokes on a dark ground, so that they can be drawn as ink on paper."""
    return pixels.shape[1] == 1 and pixels.size > 0 and float(pixels.mean()) < 100


def picture(pixels: UInt8[np.ndarray, "m c h w"], gap: int = 2, *, ink: bool = False) -> str:
    """Images side by side as one PNG in a data URI.

    Args:
        pixels: `(m, c, h, w)` bytes; one channel is grey, three are red, green and blue.
        gap: pixels between two images, transparent.
        ink: draw the value as opacity of black, so that the page shows through where there is none.

    Example:
        >>> picture(np.zeros((2, 1, 4, 4), np.uint8))[:22]
        'data:image/png;base64,'
    """
    from PIL import Image

    m, c, h, w = pixels.shape
    colors = pixels[:, :3] if c >= 3 else pixels[:, :1]
    sheet = np.zeros((h, m * w + (m - 1) * gap, 2 if c < 3 else 4), np.uint8)
    for index, image in enumerate(colors.transpose(0, 2, 3, 1)):
        place = sheet[:, index * (w + gap) : index * (w + gap) + w]
        if ink and c < 3:
            place[..., 1] = image[..., 0]
        else:
            place[..., :-1], place[..., -1] = image, 255
    file = io.BytesIO()
    Image.fromarray(sheet).save(file, format="PNG", optimize=True)
    return "data:image/png;base64," + base64.b64encode(file.getvalue()).decode("ascii")


def tile_drawing(
    rows: Sequence[ImageRow], *, ink: bool, head: Sequence[str] = (), label_width: float | int = 70
) -> str:
    """A drawing of rows of images.

    Args:
        rows: from top to bottom; all images of one size.
        ink: draw them as ink on paper (see `picture`).
        head: a short line above each column, or nothing.
        label_width: units kept for the names on the left.
    """
    most = max(len(row.pixels) for row in rows)
    height, wide = rows[0].pixels.shape[2:]
    gap = 2
    scale = min(MAX_TILE / wide, (FULL_WIDTH - label_width) / (most * (wide + gap) - gap))
    step = (wide + gap) * scale
    parts: list[str] = []
    y = 0.0
    if head:
        parts += [
            _text(label_width + i * step + wide * scale / 2, LINE_HEIGHT - 3, word)
            for i, word in enumerate(head)
        ]
        y = LINE_HEIGHT + 1
    for row in rows:
        parts += _row(row, y, label_width, scale, ink=ink)
        y += (
            height * scale
            + (LINE_HEIGHT + 3 if row.under else 3)
            + (8 if row.last and row is not rows[-1] else 0)
        )
    across = label_width + most * step - gap * scale
    return f"{open_svg(f'0 0 {max(across, FULL_WIDTH):.1f} {y:.1f}')}{''.join(parts)}</svg>"


def _row(row: ImageRow, y: float | int, left: float | int, scale: float | int, *, ink: bool) -> list[str]:
    height, wide = row.pixels.shape[2:]
    gap = 2
    parts = []
    if len(row.pixels):
        across = (len(row.pixels) * (wide + gap) - gap) * scale
        look = "ink" if ink else "photo"
        parts.append(
            f'<image class="{look}" x="{left:.1f}" y="{y:.1f}" width="{across:.1f}" '
            f'height="{height * scale:.1f}" '
            f'preserveAspectRatio="none" style="image-rendering: pixelated" '
            f'href="{picture(row.pixels, gap, ink=ink)}"/>'
        )
    lines = row.label.split("\n")
    middle = y + height * scale / 2 + 3 - (len(lines) - 1) * LINE_HEIGHT / 2
    parts += [
        _text(left - 8, middle + i * LINE_HEIGHT, line, anchor="end", role="ink" if i == 0 else "muted")
        for i, line in enumerate(lines)
    ]
    center = left + wide * scale / 2
    below = y + height * scale + LINE_HEIGHT - 2
    return parts + [_text(center + i * (wide + gap) * scale, below, word) for i, word in enumerate(row.under)]


def _text(x: float | int, y: float | int, words: str, *, anchor: str = "middle", role: str = "muted") -> str:
    style = f"font-size: 8px; text-anchor: {anchor}; fill: {PLACEHOLDER[role]}"
    return f'<text x="{x:.1f}" y="{y:.1f}" style="{style}">{escape(words)}</text>'

"""Corruptions by what is laid over an image: light, fog, mud, lines; and edges in place of ink."""

import torch
from torch import Tensor
from torch.nn import functional

from inklab.corruptions.blur import gaussian_blur
from inklab.corruptions.corruption import corruption
from inklab.corruptions.geometry import per_image
from inklab.counters import Draws

SHARES = (0.0, 0.2, 0.4, 0.6, 0.8, 1.0)
LINE_REACH = 2.3  # pixels: a line's brightness is 1 + log(1 - distance / reach)
FOG_SIDE, FOG_DECAY = 256, 1.4  # the height map's least side; how much its roughness falls with each halving
MUD_LEVEL, MUD_SD, MUD_COLOR, MUD_MIN = (
    0.65,
    0.3,
    63 / 255,
    0.8,
)  # MNIST-C's; mud thinner than MUD_MIN is none
CANNY_SIGMA, CANNY_LOW, CANNY_HIGH = 1.0, 0.1, 0.2  # scikit-image's defaults for images in [0, 1]


@corruption(
    "brightness",
    unit="value added, image range 0 to 1",
    strengths=(0.0, 0.1, 0.2, 0.3, 0.4, 0.5),
    max_strength=1.0,
)
def brightness(images: Tensor, strength: float | Tensor, draws: Draws) -> Tensor:
    """Add light and clip at white, keeping hue and saturation, as overexposure does. Draws nothing."""
    if images.shape[1] == 1:
        return (images + strength).clamp(0, 1)
    value = images.amax(dim=1, keepdim=True)  # V of HSV
    brighter = (value + strength).clamp(0, 1)
    scaled = torch.where(value > 0, images / value.clamp(min=1e-12) * brighter, brighter)
    return torch.where(brighter == value, images, scaled.clamp(0, 1))


@corruption(
    "stripe",
    unit="share of the columns inverted on each side",
    strengths=(0.0, 0.1, 0.2, 0.25, 0.3, 0.4, 0.5),
    max_strength=0.5,
)
def stripe(images: Tensor, strength: float | Tensor, draws: Draws) -> Tensor:
    """Invert the columns at the left and the right, as a frame of the other color does. Draws nothing."""
    width = images.shape[-1]
    inverted = torch.round(per_image(images, strength) * width)
    column = torch.arange(width, device=images.device)
    return torch.where((column < inverted) | (column >= width - inverted), 1 - images, images)


@corruption(
    "fog",
    unit="brightest fog, in units of white",
    strengths=(0.0, 1.0, 1.5, 2.0, 2.5, 3.0),
    max_strength=10.0,
)
def fog(images: Tensor, strength: float | Tensor, draws: Draws) -> Tensor:
    """Add clouds and darken the whole to the old maximum, as fog does."""
    if not images.numel():
        return images.clone()
    height, width = images.shape[-2:]
    side = 2 ** max(FOG_SIDE.bit_length() - 1, (max(height, width) - 1).bit_length())
    clouds = _plasma(len(images), side, draws)[:, None, :height, :width].to(images.dtype)
    brightest = images.amax(dim=(1, 2, 3), keepdim=True)
    amount = per_image(images, strength)
    foggy = (images + amount * clouds) * brightest / (brightest + amount).clamp(min=1e-12)
    return torch.where(amount == 0, images, foggy.clamp(0, 1))


def _plasma(n: int, side: int, draws: Draws) -> Tensor:
    """Fractal height maps from 0 to 1, `(n, side, side)`, by midpoint displacement; edges wrap around."""
    heights = torch.zeros(n, side, side, device=draws.device)
    step, wobble = side, 100.0
    while step >= 2:
        half = step // 2

        def displaced(total: Tensor, size: float = wobble) -> Tensor:
            return total / 4 + size * size * (2 * draws.uniform(*total.shape) - 1)

        corners = heights[:, ::step, ::step].clone()
        pairs = corners + corners.roll(-1, 1)
        heights[:, half::step, half::step] = displaced(pairs + pairs.roll(-1, 2))
        centers = heights[:, half::step, half::step].clone()
        above = centers + centers.roll(1, 1) + corners + corners.roll(-1, 2)
        heights[:, ::step, half::step] = displaced(above)
        beside = centers + centers.roll(1, 2) + corners + corners.roll(-1, 1)
        heights[:, half::step, ::step] = displaced(beside)
        step, wobble = half, wobble / FOG_DECAY
    lowest, highest = heights.amin(dim=(1, 2), keepdim=True), heights.amax(dim=(1, 2), keepdim=True)
    return (heights - lowest) / (highest - lowest)


@corruption(
    "spatter",
    unit="mean level of the mud, which covers from 0.65 up",
    strengths=(0.0, 0.6, 0.65, 0.7, 0.75),
    max_strength=1.0,
)
def spatter(images: Tensor, strength: float | Tensor, draws: Draws) -> Tensor:
    """Cover patches with dark gray mud, as a passing car does."""
    n, _, height, width = images.shape
    pixel = torch.ones((n, 1, 1, 1), dtype=images.dtype, device=images.device)
    noise = draws.normal(n, 1, height, width).to(images.dtype)
    level = gaussian_blur(MUD_SD * noise, pixel, max_sigma=1.0, axes=(-2, -1)) + per_image(images, strength)
    mud = gaussian_blur((level > MUD_LEVEL).to(images), 1.5 * pixel, max_sigma=1.5, axes=(-2, -1))
    mud = torch.where(mud < MUD_MIN, 0, mud)
    covered = (images * (1 - mud) + MUD_COLOR * mud).clamp(0, 1)
    return torch.where(per_image(images, strength) == 0, images, covered)


def _line(images: Tensor, start: tuple[Tensor, Tensor], end: tuple[Tensor, Tensor]) -> Tensor:
    """`(n, 1, h, w)` brightness of a line between two points, each the columns and the rows of `n` images.

    Distance is measured along the columns; the line goes from the column at or left of its start to the last
    one left of its end.
    """
    (left, top), (right, bottom) = ([axis.view(-1, 1, 1, 1) for axis in point] for point in (start, end))
    column = torch.arange(images.shape[-1], dtype=images.dtype, device=images.device)
    row = torch.arange(images.shape[-2], dtype=images.dtype, device=images.device).view(-1, 1)
    distance = (row - top - (bottom - top) / (right - left) * (column - left)).abs()
    light = (1 + torch.log((1 - distance / LINE_REACH).clamp(min=1e-10))).clamp(0, 1)
    return light * ((column >= left.floor()) & (column < right.ceil()))


def _integers(images: Tensor, low: int, high: int, draws: Draws) -> Tensor:
    """For each image an integer from `low` to `high - 1`, as a float."""
    return draws.integers(low, max(high, low + 1), len(images)).to(images.dtype)


@corruption("dotted_line", unit="brightness of the line, 1 is white", strengths=SHARES, max_strength=1.0)
def dotted_line(images: Tensor, strength: float | Tensor, draws: Draws) -> Tensor:
    """Draw a dotted line from the left edge to the right one, as on a form."""
    n, _, height, width = images.shape
    top, bottom = (_integers(images, 0, height - 1, draws) for _ in range(2))
    light = _line(images, (torch.zeros_like(top), top), (torch.full_like(top, width - 1), bottom))
    is_dot = torch.arange(width, device=images.device) // 2 % 2 == 1  # two columns on, two off
    return (images + strength * light * is_dot).clamp(0, 1)


@corruption("zigzag", unit="brightness of the line, 1 is white", strengths=SHARES, max_strength=1.0)
def zigzag(images: Tensor, strength: float | Tensor, draws: Draws) -> Tensor:
    """Draw a zigzag with teeth of 2 pixels across the image, as a crossing-out does."""
    n, _, height, width = images.shape
    first, length = 2, max(width - 5, 1)  # columns: where it begins, how far it goes
    top = _integers(images, 0, height - 1, draws)
    angle = torch.atan(_integers(images, -5, 5, draws) / length)
    along = length / angle.cos()
    teeth = max((length - 2) // 4 + 1, 0)
    last = 2.0 * (-1) ** (teeth - 1) if teeth else 0.0
    points = [(torch.zeros_like(top), torch.zeros_like(top))]
    for i in range(teeth):
        points.append((torch.full_like(top, 4 * i + 2), torch.full_like(top, 2.0 * (-1) ** i)))
    points.append((along, last / (2 * (along - 4 * (length // 4)).clamp(min=1))))
    cos, sin = angle.cos(), angle.sin()
    turned = [(first + cos * x - sin * y, top + sin * x + cos * y) for x, y in points]
    light = sum(
        (_line(images, start, end) for start, end in zip(turned, turned[1:], strict=False)),
        start=torch.zeros_like(images[:, :1]),
    )
    return (images + strength * light).clamp(0, 1)


@corruption("canny_edges", unit="share of the edges mixed in", strengths=SHARES, max_strength=1.0)
def canny_edges(images: Tensor, strength: float | Tensor, draws: Draws) -> Tensor:
    """Put the edges that Canny's detector finds in place of the ink. Draws nothing."""
    if not images.numel():
        return images.clone()
    return torch.lerp(images, _edges(images), per_image(images, strength)).clamp(0, 1)


def _edges(images: Tensor) -> Tensor:
    """1 where Canny (1986) finds an edge in a channel, else 0."""
    planes = images.flatten(0, 1).unsqueeze(1)
    down, across = _gradients(_smoothed(planes))
    strength = torch.hypot(down, across)
    inner = functional.pad(torch.ones_like(strength[..., 1:-1, 1:-1]), (1, 1, 1, 1)) > 0
    candidates = inner & (strength > 0) & _is_ridge(strength, down, across) & (strength >= CANNY_LOW)
    edges = candidates & (strength >= CANNY_HIGH)
    longest = images.shape[-2] * images.shape[-1] // 2  # no path of pixels is longer
    for _ in range(longest):  # weak candidates count where they touch an edge
        grown = candidates & (functional.max_pool2d(edges.to(images), 3, stride=1, padding=1) > 0)
        # An accelerator would have to wait for the answer, and goes on without it.
        if images.device.type == "cpu" and torch.equal(grown, edges):
            break
        edges = grown
    return edges.to(images).view_as(images)


def _smoothed(planes: Tensor) -> Tensor:
    """A Gaussian blur in which pixels outside the image have no weight."""
    reach = int(4 * CANNY_SIGMA + 0.5)
    offset = torch.arange(-reach, reach + 1, dtype=planes.dtype, device=planes.device)
    kernel = torch.exp(-0.5 * (offset / CANNY_SIGMA) ** 2)
    kernel = kernel / kernel.sum()

    def blur(x: Tensor) -> Tensor:
        down = functional.conv2d(x, kernel.view(1, 1, -1, 1), padding=(reach, 0))
        return functional.conv2d(down, kernel.view(1, 1, 1, -1), padding=(0, reach))

    return blur(planes) / (blur(torch.ones_like(planes[:1])) + torch.finfo(planes.dtype).eps)


def _gradients(planes: Tensor) -> tuple[Tensor, Tensor]:
    """Sobel's derivatives down and across, edges repeated."""
    x = functional.pad(planes, (1, 1, 1, 1), mode="replicate")
    wide = x[..., :-2] + 2 * x[..., 1:-1] + x[..., 2:]
    tall = x[..., :-2, :] + 2 * x[..., 1:-1, :] + x[..., 2:, :]
    return wide[..., 2:, :] - wide[..., :-2, :], tall[..., 2:] - tall[..., :-2]


def _is_ridge(strength: Tensor, down: Tensor, across: Tensor) -> Tensor:
    """Where a gradient is not smaller than the interpolated ones ahead and behind, along its direction."""
    height, width = strength.shape[-2:]
    row = torch.arange(height, device=strength.device).view(-1, 1)
    column = torch.arange(width, device=strength.device)
    steep = down.abs() >= across.abs()
    longer, shorter = (
        torch.where(steep, *pair) for pair in ((down.abs(), across.abs()), (across.abs(), down.abs()))
    )
    weight = shorter / longer.clamp(min=1e-12)

    def at(rows: Tensor, columns: Tensor) -> Tensor:
        index = (row + rows).clamp(0, height - 1) * width + (column + columns).clamp(0, width - 1)
        return strength.flatten(1).gather(1, index.flatten(1)).view_as(strength)

    is_ridge = torch.ones_like(steep)
    for direction in (1, -1):
        rows, columns = ((direction * axis.sign()).long() for axis in (down, across))
        straight = at(torch.where(steep, rows, 0), torch.where(steep, 0, columns))
        is_ridge &= at(rows, columns) * weight + straight * (1 - weight) <= strength
    return is_ridge

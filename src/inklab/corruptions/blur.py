"""Corruptions that smear ink: glass and motion. `docs/corruptions/` says how they compare with MNIST-C."""

import torch
from torch import Tensor
from torch.nn import functional

from inklab.corruptions.corruption import corruption
from inklab.corruptions.geometry import per_image
from inklab.counters import Draws

MIN_SIGMA = 1e-3  # pixels: a narrower blur changes nothing that float32 holds
TRUNCATE = 4  # standard deviations at which a Gaussian ends, as in scipy
MAX_GLASS = 5.0
SHIFT, ROUNDS = 1, 2  # glass: pixels are exchanged with neighbors this far away, this often
MOTION_RADIUS = 10  # pixels over which motion smears


def gaussian_blur(images: Tensor, sigma: Tensor, *, max_sigma: float, axes: tuple[int, ...]) -> Tensor:
    """Images blurred along some of the axes -2 (rows) and -1 (columns), edges repeated.

    Args:
        images: `(n, c, h, w)`.
        sigma: standard deviation in pixels, `(n, 1, 1, 1)`.
        max_sigma: a bound on it. Time grows with it, but no result depends on it, and nothing has to wait
            for the values of `sigma`.
        axes: along which axes.
    """
    if not images.numel():
        return images.clone()
    sigma = sigma.clamp(min=MIN_SIGMA)
    radius = torch.floor(TRUNCATE * sigma + 0.5)
    reach = int(TRUNCATE * max_sigma + 0.5)
    offset = torch.arange(-reach, reach + 1, dtype=images.dtype, device=images.device)
    weights = torch.exp(-0.5 * (offset / sigma) ** 2) * (offset.abs() <= radius)  # (n, 1, 1, offsets)
    weights = weights / weights.sum(dim=-1, keepdim=True)
    for axis in axes:
        padding = (reach, reach, 0, 0) if axis == -1 else (0, 0, reach, reach)
        padded = functional.pad(images, padding, mode="replicate")
        size = images.shape[axis]
        images = sum(
            (padded.narrow(axis, i, size) * weights[..., i : i + 1] for i in range(len(offset))),
            start=torch.zeros_like(images),
        )
    return images


@corruption(
    "glass_blur",
    unit="standard deviation of the blur, pixels",
    strengths=(0.0, 0.7, 0.9, 1.1, 1.5),
    max_strength=MAX_GLASS,
)
def glass_blur(images: Tensor, strength: float | Tensor, draws: Draws) -> Tensor:
    """Blur down the columns, exchange neighboring pixels, and blur again, as frosted glass does."""
    if not images.numel():
        return images.clone()
    sigma = per_image(images, strength)
    max_sigma = MAX_GLASS if isinstance(strength, Tensor) else float(strength)
    blurred = torch.floor(gaussian_blur(images, sigma, max_sigma=max_sigma, axes=(-2,)) * 255) / 255
    order = _exchanged(images, draws).unsqueeze(1).expand(-1, images.shape[1], -1)
    shuffled = blurred.flatten(2).gather(2, order).view_as(images)
    twice = gaussian_blur(shuffled, sigma, max_sigma=max_sigma, axes=(-2,))
    return torch.where(sigma == 0, images, twice.clamp(0, 1))


def _exchanged(images: Tensor, draws: Draws) -> Tensor:
    """Which pixel comes to each position, `(n, h * w)`.

    From the last pixel backwards, half of them change places with one up to `SHIFT` above and to the left.
    """
    n, (height, width) = len(images), images.shape[-2:]
    order = torch.arange(height * width, device=images.device).repeat(n, 1)
    image = torch.arange(n, device=images.device)
    positions = [
        row * width + column
        for row in range(height - SHIFT, SHIFT, -1)
        for column in range(width - SHIFT, SHIFT, -1)
    ]
    for _ in range(ROUNDS):
        up, left = (draws.integers(-SHIFT, SHIFT, n, len(positions)) for _ in range(2))
        moves = (up * width + left) * draws.integers(0, 2, n, len(positions))
        for position, move in zip(positions, moves.unbind(1), strict=True):
            other = position + move
            here = order[:, position].clone()
            order[:, position] = order[image, other]
            order[image, other] = here
    return order


@corruption(
    "motion_blur",
    unit="standard deviation of the smear, pixels",
    strengths=(0.0, 1.0, 2.0, 3.0, 4.0, 6.0),
    max_strength=15.0,
)
def motion_blur(images: Tensor, strength: float | Tensor, draws: Draws) -> Tensor:
    """Smear along a line within 45 degrees of the rows, to one side, as a moving camera does."""
    if not images.numel():
        return images.clone()
    sigma = per_image(images, strength)
    angle = (draws.uniform(len(images)).to(images.dtype) - 0.5) * torch.pi / 2
    step = torch.arange(2 * MOTION_RADIUS + 1, dtype=images.dtype, device=images.device)
    weights = torch.exp(-0.5 * (step / sigma.clamp(min=MIN_SIGMA)) ** 2)  # (n, 1, 1, steps)
    weights = weights / weights.sum(dim=-1, keepdim=True)
    smeared = torch.zeros_like(images)
    for number, distance in enumerate(step):
        down = torch.ceil(distance * angle.sin() - 0.5).long()
        across = torch.ceil(distance * angle.cos() - 0.5).long()
        smeared += _moved(images, down, across) * weights[..., number : number + 1]
    return torch.where(sigma == 0, images, smeared.clamp(0, 1))


def _moved(images: Tensor, down: Tensor, across: Tensor) -> Tensor:
    """Each pixel from so many rows further down and columns further right, `(n,)`; edges are repeated."""
    n, channels, height, width = images.shape
    rows = (torch.arange(height, device=images.device) + down.view(-1, 1)).clamp(0, height - 1)
    columns = (torch.arange(width, device=images.device) + across.view(-1, 1)).clamp(0, width - 1)
    moved: Tensor = images[
        torch.arange(n, device=images.device).view(-1, 1, 1, 1),
        torch.arange(channels, device=images.device).view(1, -1, 1, 1),
        rows.view(n, 1, -1, 1),
        columns.view(n, 1, 1, -1),
    ]
    return moved

"""What a corruption is, and how one is registered."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from inklab.errors import ConfigError, InklabError, OutOfRangeError
from inklab.registry import Registry
from inklab.usercode import is_user_code, load_object

CorruptFn = Callable[[Tensor, float | Tensor, torch.Generator], Tensor]
"""Behind a corruption: images in [0, 1], a strength (a float, or `(n, 1, 1, 1)`), a generator -> images."""


@dataclass(frozen=True)
class Corruption:
    """A way in which images get worse, by a strength that has a unit.

    Strength 0 leaves every image as it is, bit for bit, and the images that come out lie in [0, 1] again.

    Attributes:
        name: what studies and the command line call it.
        unit: what the strength counts, as an axis label.
        strengths: where a curve is measured unless the study says otherwise; rising, starts at 0.
        largest: the largest strength that makes sense; anything above is refused.
        run: the bare function. It checks nothing; `__call__` does.

    Example:
        >>> grey = torch.full((1, 1, 2, 2), 0.5)
        >>> corruptions["salt_and_pepper"](grey, 1.0, torch.Generator().manual_seed(0)).unique().tolist()
        [0.0, 1.0]
    """

    name: str
    unit: str
    strengths: tuple[float, ...]
    largest: float
    run: CorruptFn

    def __post_init__(self) -> None:
        rising = all(low < high for low, high in zip(self.strengths, self.strengths[1:], strict=False))
        if not rising or self.strengths[:1] != (0.0,) or self.strengths[-1] > self.largest:
            raise InklabError(
                f"corruption '{self.name}' has the strengths {self.strengths};"
                f" they must start at 0, rise, and end at or below its largest, {self.largest}"
            )

    @property
    def description(self) -> str:
        """The first line of the function's docstring, for listings."""
        return (self.run.__doc__ or "").strip().partition("\n")[0]

    def __call__(
        self,
        images: Float[Tensor, "n c h w"],
        strength: float | Float[Tensor, " n"],
        rng: torch.Generator,
    ) -> Float[Tensor, "n c h w"]:
        """A spoilt copy of some images; the images themselves stay untouched.

        The same images, strength and state of `rng` give the same result; draws are made where `rng` lives.

        Args:
            images: `(n, c, h, w)` floats in [0, 1], before any scaling.
            strength: one for all images, or `(n,)` one an image; in [0, `largest`], in `unit`.
            rng: where the draws come from.

        Raises:
            OutOfRangeError: a strength, an image value or a shape is not as stated above.
        """
        check_images(images)
        if isinstance(strength, Tensor):
            return self.run(images, self._strength_per_image(images, strength), rng)
        self.check_strength(strength)
        return self.run(images, strength, rng)

    def check_strength(self, strength: float) -> None:
        """Refuse a strength outside [0, `largest`].

        Raises:
            OutOfRangeError: it is below 0, too large, or not a number.
        """
        if not 0 <= strength <= self.largest:  # also catches NaN
            raise OutOfRangeError(
                f"strength {strength:g} of '{self.name}' is out of range;"
                f" allowed: 0 to {self.largest:g} ({self.unit})"
            )

    def _strength_per_image(self, images: Tensor, strength: Tensor) -> Tensor:
        if strength.shape != images.shape[:1]:
            raise OutOfRangeError(
                f"strengths of shape {tuple(strength.shape)} for images of shape {tuple(images.shape)};"
                " give one number for all images, or one an image"
            )
        if len(strength):
            low, high = torch.aminmax(strength)
            self.check_strength(low.item())
            self.check_strength(high.item())
        return strength.to(images).view(-1, 1, 1, 1)


corruptions: Registry[Corruption] = Registry("corruption", "inklab.corruptions")
"""Every corruption by name."""


def corruption(
    name: str, *, unit: str, strengths: tuple[float, ...], largest: float
) -> Callable[[CorruptFn], Corruption]:
    """Register the decorated function as a corruption.

    Args:
        name: what studies and the command line call it.
        unit: what the strength counts, as an axis label.
        strengths: where a curve is measured by default; rising, starts at 0.
        largest: the largest strength allowed.

    A whole extension, in any file of this package (`docs/corruptions.md` has a tested copy):

        @corruption("fog", unit="share of white mixed in", strengths=(0.0, 0.2, 0.4), largest=1.0)
        def fog(images, strength, rng):
            return torch.lerp(images, torch.ones_like(images), strength)
    """

    def register(run: CorruptFn) -> Corruption:
        made = Corruption(name, unit, strengths, largest, run)
        corruptions.add(name, made)
        return made

    return register


def check_images(images: Tensor) -> None:
    """Refuse what cannot be images in [0, 1].

    Raises:
        OutOfRangeError: not four axes, no floats, or a value outside [0, 1].
    """
    if images.ndim != 4 or not images.is_floating_point():
        raise OutOfRangeError(
            f"got {images.dtype} of shape {tuple(images.shape)}; images are floats (n, c, h, w) in [0, 1]:"
            " divide bytes by 255 first"
        )
    # Costs 0.2 ns a pixel, a fortieth of salt and pepper. Not looked at on an accelerator: reading
    # the answer would make it wait, in every step of a training.
    if images.device.type != "cpu" or not images.numel():
        return
    low, high = (bound.item() for bound in torch.aminmax(images))
    if not (low >= 0 and high <= 1):
        raise OutOfRangeError(
            f"image values from {low:g} to {high:g}; allowed: 0 to 1. Corrupt images before they are scaled"
        )


def get_corruption(name: str) -> Corruption:
    """A registered corruption, or one in a user's own file (`my_noise.py:speckle`).

    Raises:
        UnknownNameError: nothing has that name.
        ConfigError: what the file holds under that name is not a corruption.
    """
    if not is_user_code(name):
        return corruptions[name]
    found = load_object(name)
    if not isinstance(found, Corruption):
        raise ConfigError(
            f"'{name}' is a {type(found).__name__}; decorate the function with @corruption(...)"
        )
    return found

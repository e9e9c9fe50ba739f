"""What a corruption is, and how one is registered."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise

import torch
from jaxtyping import Float
from torch import Tensor

from inklab.counters import Draws
from inklab.errors import InklabError, ModelMismatchError, OutOfRangeError
from inklab.registry import Registry
from inklab.usercode import require_function, short_name

PLAIN_STRENGTHS = (0.0, 0.2, 0.4, 0.6, 0.8, 1.0)
"""Those of the default curve of a function that is not decorated."""

CorruptFn = Callable[[Tensor, float | Tensor, Draws], Tensor]
"""Images in [0, 1], a strength (a float, or `(n, 1, 1, 1)`) and draws to corrupted images."""


@dataclass(frozen=True)
class StrengthScale:
    """A strength with a unit, of a corruption or an attack.

    Attributes:
        name: what studies and the command line call it.
        unit: unit of the strength, as an axis label.
        strengths: strengths of the default curve; rising, starting at 0.
        max_strength: largest allowed strength; larger values raise OutOfRangeError.
    """

    name: str
    unit: str
    strengths: tuple[float, ...]
    max_strength: float

    def __post_init__(self) -> None:
        is_rising = all(low < high for low, high in pairwise(self.strengths))
        if not is_rising or self.strengths[:1] != (0.0,) or self.strengths[-1] > self.max_strength:
            raise InklabError(
                f"corruption '{self.name}' has the strengths {self.strengths}; they must start at 0, rise, "
                f"and be at most max_strength, {self.max_strength}"
            )

    def check_strength(self, strength: float) -> None:
        """Refuse a strength outside [0, `max_strength`].

        Raises:
            OutOfRangeError: it is below 0, too large, or NaN.
        """
        if not 0 <= strength <= self.max_strength:  # also catches NaN
            raise OutOfRangeError(
                f"strength {strength:g} of '{self.name}' is out of range; allowed: 0 to "
                f"{self.max_strength:g} ({self.unit})"
            )


@dataclass(frozen=True)
class Corruption(StrengthScale):
    """One way in which images get worse, whatever network reads them.

    Strength 0 returns every image unchanged, bit for bit. The output is in [0, 1].

    Attributes:
        fn: the function itself, which checks nothing; `__call__` does.

    Example:
        >>> from inklab.seeding import Seed
        >>> gray = torch.full((1, 1, 8, 8), 0.5)
        >>> corruptions["salt_and_pepper"](gray, 1.0, Seed(0).draws()).unique().tolist()
        [0.0, 1.0]
    """

    fn: CorruptFn

    @property
    def description(self) -> str:
        """The first line of the function's docstring, for listings."""
        return (self.fn.__doc__ or "").strip().partition("\n")[0]

    def __call__(
        self,
        images: Float[Tensor, "n c h w"],
        strength: float | Float[Tensor, " n"],
        draws: Draws,
    ) -> Float[Tensor, "n c h w"]:
        """A corrupted copy of images in [0, 1], before normalization.

        The same images, strength and draws (key, first image, number of earlier draws) give the same result,
        on every device. There is one strength for all images or one per image, in [0, `max_strength`] and in
        `unit`.

        Raises:
            OutOfRangeError: a strength, an image value or a shape is not as documented.
            ModelMismatchError: the function returned no such images.
        """
        check_images(images)
        if isinstance(strength, Tensor):
            strength = self._strength_per_image(images, strength)
        else:
            self.check_strength(strength)
        return check_output(f"corruption '{self.name}'", self.fn(images, strength, draws), images)

    def _strength_per_image(self, images: Tensor, strength: Tensor) -> Tensor:
        if strength.shape != images.shape[:1]:
            raise OutOfRangeError(
                f"strengths have the shape {tuple(strength.shape)} and images {tuple(images.shape)}; give "
                "one strength for all images, or one per image"
            )
        if len(strength) and strength.device.type == "cpu":  # elsewhere, reading would wait for the device
            low, high = torch.aminmax(strength)
            self.check_strength(low.item())
            self.check_strength(high.item())
        return strength.to(images).view(-1, 1, 1, 1)


def _wrap(name: str, value: object) -> Corruption:
    """A plain function of the user's gets strengths from 0 to 1, and allows larger ones."""
    if isinstance(value, Corruption):
        return value
    function = require_function(
        name, value,
        "a corruption is a function (images, strength, draws), with @corruption(...) if its strength has a "
        "unit or a range of its own",
    )  # fmt: skip
    return Corruption(short_name(name), "strength", PLAIN_STRENGTHS, math.inf, function)


corruptions: Registry[Corruption] = Registry("corruption", "inklab.corruptions", wrap=_wrap)
"""Every corruption by name."""


def corruption(
    name: str, *, unit: str, strengths: tuple[float, ...], max_strength: float
) -> Callable[[CorruptFn], Corruption]:
    """Register the decorated function as a corruption.

    The arguments are the attributes of `Corruption`. A complete extension, in any file of this package
    (`docs/corruptions.md` has a tested copy); also add a card, `docs/corruptions/whitewash.md`:

        @corruption("whitewash", unit="share of white mixed in", strengths=(0.0, 0.2, 0.4), max_strength=1.0)
        def whitewash(images, strength, draws):
            return torch.lerp(images, torch.ones_like(images), strength)
    """
    return lambda fn: corruptions.add(name, Corruption(name, unit, strengths, max_strength, fn))


def check_images(images: Tensor) -> None:
    """Refuse anything but floats `(n, c, h, w)` in [0, 1].

    Raises:
        OutOfRangeError: the dimensions, the type or a value are others.
    """
    if images.ndim != 4 or not images.is_floating_point():
        raise OutOfRangeError(
            f"images are {images.dtype} of shape {tuple(images.shape)}; they must be floats (n, c, h, w) in "
            "[0, 1]: divide bytes by 255 first"
        )
    if outside := _values_outside(images):
        raise OutOfRangeError(
            f"image values go {outside}; allowed: 0 to 1. Corrupt images before normalizing them"
        )


def check_output(name: str, output: object, images: Tensor) -> Tensor:
    """What a corruption or a filter, which a user may have written, returned for some images.

    Raises:
        ModelMismatchError: it is not a tensor of their shape and type, or has values outside [0, 1].
    """
    if not isinstance(output, Tensor):
        raise ModelMismatchError(f"{name} returned a {type(output).__name__}; it must return a tensor")
    if output.shape != images.shape or output.dtype != images.dtype:
        raise ModelMismatchError(
            f"{name} returned {output.dtype} of shape {tuple(output.shape)} for {images.dtype} of shape "
            f"{tuple(images.shape)}; it must keep both"
        )
    if outside := _values_outside(output):
        raise ModelMismatchError(f"{name} returned values {outside}; it must return 0 to 1: clamp them")
    return output


def _values_outside(images: Tensor) -> str:
    """The range of values that are not all in [0, 1], as text; "" if they are.

    Costs 0.2 ns per pixel, a fortieth of salt and pepper. Nothing is checked on an accelerator: reading the
    result would synchronize it in every training step.
    """
    if images.device.type != "cpu" or not images.numel():
        return ""
    low, high = (bound.item() for bound in torch.aminmax(images))
    return "" if low >= 0 and high <= 1 else f"from {low:g} to {high:g}"  # also NaN, which is not


def get_corruption(name: str) -> Corruption:
    """A registered corruption, one in a user's own file (`my_noise.py:speckle`), or a live object.

    Raises:
        UnknownNameError: nothing has that name.
        ConfigError: the object of that name is not a corruption.
    """
    return corruptions.resolve(name)

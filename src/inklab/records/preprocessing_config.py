"""How any picture becomes an image of the training format, as data; `inklab.data.preprocessing` does it."""

from typing import Literal

from pydantic import Field, model_validator

from inklab.records.record import Record, Shape, Side

Center = Literal["mass", "box", "none"]


class Preprocessing(Record):
    """How a picture becomes an image; part of every trained model, so that it can't be forgotten.

    Attributes:
        channels: 1 gray, 3 color (with `center="none"` only).
        height: of the image, pixels.
        width: of the image, pixels.
        light_on_dark: whether strokes are light on a dark ground in the training images, as in MNIST.
        fit_to: pixels; the longer side of the strokes' bounding box is scaled to it.
        center: what is put in the middle: the strokes' center of "mass", their bounding "box", or "none":
            nothing is looked for or cropped, the whole picture is resized.

    Example:
        >>> Preprocessing().shape, Preprocessing.resize_only((3, 32, 32)).center
        ((1, 28, 28), 'none')
    """

    channels: Literal[1, 3] = 1
    height: Side = 28
    width: Side = 28
    light_on_dark: bool = True
    fit_to: int = Field(default=20, ge=1)
    center: Center = "mass"

    @model_validator(mode="after")
    def _check_consistent(self) -> "Preprocessing":
        if self.channels != 1 and self.center != "none":
            raise ValueError(f"{self.channels} channels need center = 'none', not '{self.center}'")
        if self.fit_to > min(self.height, self.width):
            shorter = min(self.height, self.width)
            raise ValueError(f"fit_to is {self.fit_to}, but at most {shorter}, the shorter side, is allowed")
        return self

    @classmethod
    def resize_only(cls, shape: tuple[int, int, int]) -> "Preprocessing":
        """The preprocessing that only resizes whole pictures.

        Args:
            shape: channels (1 or 3), height, width.

        Raises:
            ConfigError: no image has that shape.
        """
        channels, height, width = shape
        sides = {"channels": channels, "height": height, "width": width, "fit_to": min(height, width)}
        return cls.parse({**sides, "center": "none"}, "preprocessing")

    @property
    def shape(self) -> Shape:
        """Channels, height and width of the image."""
        return self.channels, self.height, self.width

    @property
    def is_resize_only(self) -> bool:
        """Whether whole pictures are resized, with nothing cropped or centered."""
        return self.center == "none"

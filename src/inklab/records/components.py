"""What trained models consist of: the pipeline, how pictures become images, normalization, the network."""

from collections.abc import Callable, Collection, Mapping
from typing import Annotated, Any, Literal

from pydantic import (
    BeforeValidator,
    ConfigDict,
    Discriminator,
    Field,
    GetCoreSchemaHandler,
    Tag,
    model_validator,
)
from pydantic_core import CoreSchema, core_schema

from inklab.errors import ConfigError, UnknownNameError
from inklab.metrics import Task
from inklab.records.record import Bounded, FiniteJson, PositiveFp32, Record, Shape, Side
from inklab.usercode import is_user_code, reference, short_name

Center = Literal["mass", "box", "none"]

ATTACKS = {"fgsm": 1, "pgd": 40}
"""Attacks, which need the network and take the place of a corruption in robustness experiments, with the
gradient steps of each."""

PreprocessingWord = Literal["mnist", "resize"]
"""Ways to preprocess that have a name; see `Preprocessing.of`."""


def _reference(value: object) -> object:
    return reference(value) if callable(value) else value


ObjectName = Annotated[str, BeforeValidator(_reference)]
"""A registered name, `file.py:Name`, or the reference of a class or function, which may be given itself."""


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

    @classmethod
    def of(cls, word: PreprocessingWord, shape: tuple[int, int, int]) -> "Preprocessing":
        """The preprocessing that a word means, for images of a shape (channels, height, width).

        Args:
            word: "mnist": ink is detected, scaled and centered in the proportions of MNIST; "resize": the
                whole picture is resized.
            shape: channels (1 for "mnist", else 1 or 3), height, width.

        Raises:
            ConfigError: the shape does not allow it.

        Example:
            >>> Preprocessing.of("mnist", (1, 56, 56)).fit_to, Preprocessing.of("resize", (3, 8, 8)).center
            (40, 'none')
        """
        if word == "resize":
            return cls.resize_only(shape)
        channels, height, width = shape
        sides = {"channels": channels, "height": height, "width": width}
        return cls.parse({**sides, "fit_to": max(1, round(min(height, width) * 20 / 28))}, "preprocessing")

    @property
    def shape(self) -> Shape:
        """Channels, height and width of the image."""
        return self.channels, self.height, self.width

    @property
    def summary(self) -> str:
        """What becomes of a picture, in a line.

        Example:
            >>> Preprocessing().summary
            'ink cropped, longer side scaled to 20 pixels, center of mass in the middle, light on dark'
        """
        if self.is_resize_only:
            return f"resized as a whole to {self.height} x {self.width} pixels"
        center = "center of mass" if self.center == "mass" else "bounding box"
        ground = "light on dark" if self.light_on_dark else "dark on light"
        return f"ink cropped, longer side scaled to {self.fit_to} pixels, {center} in the middle, {ground}"

    @property
    def is_resize_only(self) -> bool:
        """Whether whole pictures are resized, with nothing cropped or centered."""
        return self.center == "none"


class NormalizeConfig(Record):
    """The normalization in front of a network: `(images - mean) / std`, for images in [0, 1].

    Attributes:
        mean: subtracted from every value.
        std: what is divided by; 1 for nothing.
    """

    mean: Bounded = 0.0
    std: PositiveFp32 = 1.0


def _word_or_table(value: object) -> str | None:
    if isinstance(value, str):
        return "word"
    return "table" if isinstance(value, Mapping | Record) else None


def _by_word_or_table(allowed: str) -> Discriminator:
    """Tells the two apart. Anything else is refused in one line that says what is allowed."""
    return Discriminator(
        _word_or_table, custom_error_type="word_or_table", custom_error_message=f"should be {allowed}"
    )


PreprocessingChoice = Annotated[
    Annotated[Preprocessing, Tag("table")] | Annotated[Literal["auto", "mnist", "resize"], Tag("word")],
    _by_word_or_table("'auto', 'mnist', 'resize', or a table of a preprocessing"),
]
"""What a study says: "auto" decides by the images; "mnist" and "resize" as `Preprocessing.of`; a table."""


Normalization = Annotated[
    Annotated[NormalizeConfig, Tag("table")] | Annotated[Literal["none", "dataset"], Tag("word")],
    _by_word_or_table("'none', 'dataset', or a mean and a std, such as { mean = 0.1, std = 0.3 }"),
]
"""What a study says: "none", the "dataset"'s own mean and standard deviation, or numbers."""


class NetworkConfig(Record):
    """Which network: a registered name, `file.py:Name` or a class or function, and its keyword arguments.

    In TOML and JSON it is one table, `{name = "mlp", hidden = [500, 300]}`.

    Attributes:
        name: of the network.

    Example:
        >>> network = NetworkConfig.parse({"name": "mlp", "hidden": [500, 300]})
        >>> network.name, network.kwargs, network == NetworkConfig.of("mlp", hidden=(500, 300))
        ('mlp', {'hidden': [500, 300]}, True)
    """

    model_config = ConfigDict(extra="allow")
    __pydantic_extra__: dict[str, FiniteJson]

    name: Annotated[ObjectName, Field(min_length=1)]

    @classmethod
    def of(cls, name: str | Callable[..., object], **kwargs: object) -> "NetworkConfig":
        """A network by name and keyword arguments. Raises ConfigError: an argument is not a JSON value."""
        return cls.parse({**kwargs, "name": name}, "network")

    @classmethod
    def parse(cls, value: object, name: str = "network") -> "NetworkConfig":
        """A network from what a study says: its name, a class or function, or a table with one of them.

        Raises:
            ConfigError: there is no name, or an argument is not a JSON value.
        """
        is_name = isinstance(value, str) or callable(value)
        return super().parse({"name": value} if is_name else value, name)

    @property
    def kwargs(self) -> dict[str, object]:
        """Keyword arguments of the network; a new dictionary."""
        return dict(self.__pydantic_extra__)

    @property
    def is_user_code(self) -> bool:
        """Whether it is a class or function of the user's own."""
        return is_user_code(self.name)

    def with_kwargs(self, kwargs: Mapping[str, Any]) -> "NetworkConfig":
        """The same network with some arguments replaced."""
        return type(self).parse({**self.kwargs, **kwargs, "name": self.name})


PARTS: dict[Task, str] = {"classification": "a classifier", "denoising": "a denoiser"}
"""What networks trained for a task are in a pipeline."""


def check_part(name: str, task: Task | None, needed: Task) -> None:
    """Refuse a denoiser where a classifier is needed, and the other way round, with a ConfigError."""
    if task not in (None, needed):
        raise ConfigError(f"'{name}' trains {PARTS[task]}, but {PARTS[needed]} is needed there", key=name)


class Pipeline(str):
    """What an image passes through: denoisers or filters, then a classifier; written `denoiser+cnn`.

    It is a string, so it can be a key and is written as one. Nothing else splits or joins at the plus.

    Args:
        text: names of parts with a plus in between.

    Raises:
        ConfigError: a part has no name.

    Example:
        >>> pipeline = Pipeline("denoiser+cnn")
        >>> pipeline.parts, pipeline.denoisers, pipeline.classifier
        (('denoiser', 'cnn'), ('denoiser',), 'cnn')
        >>> Pipeline.of("median", "cnn") == "median+cnn"
        True
    """

    __slots__ = ()

    def __new__(cls, text: str) -> "Pipeline":
        """Check that every part has a name."""
        if not all(part.strip() == part != "" for part in text.split("+")):
            raise ConfigError(f"'{text[:100]}' is not a pipeline; write one as denoiser+classifier")
        return super().__new__(cls, text)

    @classmethod
    def of(cls, *parts: str) -> "Pipeline":
        """A pipeline of parts, the classifier last."""
        return cls("+".join(parts))

    @property
    def parts(self) -> tuple[str, ...]:
        """Names of all parts in the order in which an image passes them."""
        return tuple(self.split("+"))

    @property
    def label(self) -> "Pipeline":
        """It as people call it: filters of the user's own without folder and identity.

        Example:
            >>> Pipeline("/home/me/my_filters.py:sharpen+cnn").label
            'my_filters.py:sharpen+cnn'
        """
        return Pipeline.of(*map(short_name, self.parts))

    @property
    def denoisers(self) -> tuple[str, ...]:
        """Names of the denoisers and filters in front of the classifier."""
        return self.parts[:-1]

    @property
    def classifier(self) -> str:
        """Name of the last part."""
        return self.parts[-1]

    def check(self, tasks: Mapping[str, Task], filters: Collection[str] | None = None) -> None:
        """Refuse parts that do not exist, or do not fit in their position.

        Args:
            tasks: of all that is trained, by name; `name:key=value` is a setting of `name`.
            filters: registered ones; if left out, what is not trained may be a filter. One of the user's own
                may be any.

        Raises:
            UnknownNameError: a part is neither trained nor a filter.
            ConfigError: the last part is not a classifier, or an earlier one is not a denoiser.
        """
        for position, part in enumerate(self.parts, 1):
            needed: Task = "classification" if position == len(self.parts) else "denoising"
            is_own = is_user_code(part)
            if not is_own and (task := tasks.get(part.partition(":")[0])):
                check_part(part, task, needed)
            elif not is_own and filters is None and needed == "classification":
                raise UnknownNameError("training experiment", part, tasks)
            elif not is_own and filters is not None and part not in filters:
                raise UnknownNameError("experiment or filter", part, [*tasks, *filters])
            elif needed == "classification":
                raise ConfigError(
                    f"'{short_name(part)}' is a filter, but a pipeline ends in a classifier", key=part
                )

    @classmethod
    def _join(cls, value: object) -> object:
        """A list of parts, among them functions, as text."""
        return "+".join(map(reference, value)) if isinstance(value, list | tuple) and value else value

    @classmethod
    def _validate(cls, text: str) -> "Pipeline":
        try:
            return cls(text)
        except ConfigError as error:
            raise ValueError(str(error)) from None

    @classmethod
    def __get_pydantic_core_schema__(cls, source: object, handler: GetCoreSchemaHandler) -> CoreSchema:
        """Text that is checked, or a list of parts."""
        text = core_schema.no_info_before_validator_function(cls._join, core_schema.str_schema())
        return core_schema.no_info_after_validator_function(cls._validate, text)

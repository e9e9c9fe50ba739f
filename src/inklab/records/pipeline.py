"""What images pass through on their way to a class: the one place that reads and writes `denoiser+cnn`."""

from pydantic import GetCoreSchemaHandler
from pydantic_core import CoreSchema, core_schema

from inklab.errors import ConfigError


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
    def denoisers(self) -> tuple[str, ...]:
        """Names of what stands in front of the classifier: denoisers or filters."""
        return self.parts[:-1]

    @property
    def classifier(self) -> str:
        """Name of the last part."""
        return self.parts[-1]

    @classmethod
    def _validate(cls, text: str) -> "Pipeline":
        try:
            return cls(text)
        except ConfigError as error:
            raise ValueError(str(error)) from None

    @classmethod
    def __get_pydantic_core_schema__(cls, source: object, handler: GetCoreSchemaHandler) -> CoreSchema:
        """Text that is checked."""
        return core_schema.no_info_after_validator_function(cls._validate, core_schema.str_schema())

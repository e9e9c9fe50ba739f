"""What requests and answers look like: checked when they come in, and described in /openapi.json."""

import base64
import binascii
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from inklab.serve.limits import HttpError, Limits

DEFAULT_LIMITS = Limits()
MAX_SEED = 2**31 - 1

Base64 = Annotated[str, Field(description="base64 of bytes", json_schema_extra={"contentEncoding": "base64"})]
Id = Annotated[str, Field(max_length=200)]
Seed = Annotated[int, Field(ge=0, le=MAX_SEED)]
Share = Annotated[float, Field(ge=0, le=1)]
Images = Annotated[
    list[Base64],
    Field(
        min_length=1, max_length=DEFAULT_LIMITS.images,
        description="each base64 of channels x height x width bytes, row by row, as training images are",
    ),
]  # fmt: skip


class ApiRequest(BaseModel):
    """What a request may hold; anything else is refused, and so is what would have to be converted."""

    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False, frozen=True)


class CorruptionRequest(ApiRequest):
    """Noise to put on images before they are judged."""

    corruption: Id | None = Field(None, description="its id; the study's own one if left out")
    strength: Annotated[float, Field(ge=0, le=1e6, description="in the corruption's unit")]
    seed: Seed = Field(0, description="the same seed draws the same noise, at every strength")


class _WithImages(ApiRequest):
    images: Images | None = None
    picture: Base64 | None = Field(
        None, description="base64 of a PNG, JPEG, BMP or WebP file, which is framed as training images were"
    )
    noise: CorruptionRequest | None = None

    @model_validator(mode="after")
    def _one_of_both(self) -> Any:
        if (self.images is None) == (self.picture is None):
            raise ValueError("give either images or a picture")
        return self


class PredictRequest(_WithImages):
    """Images, and by which pipelines they are to be judged."""

    pipelines: Annotated[list[Id], Field(min_length=1, max_length=DEFAULT_LIMITS.images)] | None = Field(
        None, description="ids of /api/networks; the first one if left out"
    )


class DenoiseRequest(_WithImages):
    """Images to clean."""

    denoiser: Id | None = Field(None, description="its id; the first one if left out")


class GenerateRequest(ApiRequest):
    """New images to draw: anywhere, on a walk between four codes, or near an image."""

    decoder: Id | None = Field(None, description="its id; the first one if left out")
    sampler: Id | None = Field(None, description="its id; 'mixture' if left out")
    count: Annotated[int, Field(ge=1, le=DEFAULT_LIMITS.draws)] = Field(16, description="with `at`: not used")
    seed: Seed = 0
    at: Annotated[list[tuple[Share, Share]], Field(min_length=1, max_length=DEFAULT_LIMITS.draws)] | None = (
        Field(None, description="places [x, y] of a walk between four codes, one image each")
    )
    near: Base64 | None = Field(None, description="an image as in `images`; its code is varied")
    spread: Annotated[float, Field(ge=0, le=2)] = Field(0.5, description="of `near`, in standard deviations")

    @model_validator(mode="after")
    def _not_both(self) -> Any:
        if self.at is not None and self.near is not None:
            raise ValueError("give either at or near, not both")
        return self


class PredictionItem(BaseModel):
    """What one pipeline says of one image."""

    pipeline: str
    seen: Base64 = Field(description="the image as it reached the classifier")
    label: str | None = Field(description="the most probable class; null where it abstains")
    probabilities: list[float] = Field(description="in the order of labels")
    abstains: Literal["empty", "unfamiliar"] | None
    familiarity: float | None = Field(
        description="0 and more: familiar; 1: as validation images typically are; null while it isn't known"
    )


class PredictedImage(BaseModel):
    """One image, and what is said of it."""

    image: Base64
    shown: Base64 = Field(description="with noise")
    judgements: list[PredictionItem]


class PredictResponse(BaseModel):
    """One entry an image."""

    images: list[PredictedImage]


class DenoisedImage(BaseModel):
    """One image, with noise, and cleaned."""

    image: Base64
    shown: Base64
    cleaned: Base64


class DenoiseResponse(BaseModel):
    """One entry an image."""

    images: list[DenoisedImage]


class SampleLabel(BaseModel):
    """What the judge sees in a new image."""

    label: str
    probability: float


class GenerateResponse(BaseModel):
    """New images, and what a classifier sees in them; nothing if there is none."""

    images: list[Base64]
    recognised: list[SampleLabel]


class StudyResponse(BaseModel):
    """The run's results.json, and how far it is (docs/run-folder.md, docs/serving.md)."""

    results: dict[str, Any] | None
    progress: dict[str, Any] | None


class Health(BaseModel):
    """That the server answers."""

    status: Literal["ok"]
    inklab: str
    study: str | None


class ErrorResponse(BaseModel):
    """One line: what was given, what is allowed, what to do."""

    error: str


def format_errors(error: ValidationError) -> str:
    """The first thing that is wrong with a request, in one line."""
    first = error.errors(include_url=False, include_context=False)[0]
    place = ".".join(str(part) for part in first["loc"])
    given = first.get("input")
    shown = (
        ""
        if isinstance(given, dict | list) or first["type"] == "missing"
        else f" (given: {repr(given)[:60]})"
    )
    return f"{place or 'the body'}: {first['msg'].removeprefix('Value error, ')}{shown}; see /openapi.json"


def pixels_of(images: list[str], shape: tuple[int, int, int], name: str = "images") -> np.ndarray:
    """Bytes `(n, c, h, w)` of images in base64.

    Raises:
        HttpError: one is no base64, or has another size (422).

    Example:
        >>> pixels_of(["AAD/"], (1, 1, 3)).tolist()
        [[[[0, 0, 255]]]]
    """
    size = shape[0] * shape[1] * shape[2]
    found = bytearray()
    for place, text in enumerate(images):
        raw = decode_images(text, f"{name}[{place}]" if name == "images" else name)
        if len(raw) != size:
            raise HttpError(
                422,
                f"{name}[{place}] has {len(raw):,} bytes; an image of {' x '.join(map(str, shape))} "
                f"(channels, height, width) has {size:,}",
            )
        found += raw
    return np.frombuffer(found, np.uint8).reshape(-1, *shape)


def decode_images(text: str, name: str) -> bytes:
    """The bytes of a text in base64.

    Raises:
        HttpError: it is none (422).
    """
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:
        raise HttpError(422, f"{name} is not base64: {error}") from error


def encode_images(image: np.ndarray) -> str:
    """Bytes as base64."""
    return base64.b64encode(image.tobytes()).decode("ascii")

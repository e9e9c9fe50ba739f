"""Requests and responses of the API: validated by pydantic, and described in /openapi.json."""

import base64
import binascii
import json
from collections.abc import Sequence
from typing import Annotated, Literal

import numpy as np
from jaxtyping import Float32, UInt8
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from inklab.errors import MAX_NAME_LENGTH, did_you_mean
from inklab.ood import Abstained
from inklab.records.components import Pipeline, Preprocessing
from inklab.records.estimates import Estimate
from inklab.records.record import Share
from inklab.records.results import Results
from inklab.records.status import Progress
from inklab.serve.middleware import HttpError, Limits

DEFAULT_LIMITS = Limits()
MAX_SEED = 2**31 - 1

Base64 = Annotated[str, Field(description="base64 of bytes", json_schema_extra={"contentEncoding": "base64"})]
Name = Annotated[str, Field(max_length=200)]
SeedNumber = Annotated[int, Field(ge=0, le=MAX_SEED)]
SingleImages = Annotated[
    list[Base64],
    Field(
        min_length=1,
        max_length=DEFAULT_LIMITS.max_images,
        fail_fast=True,  # millions of wrong entries give one error
        description="each base64 of channels x height x width bytes, row by row, as training images are",
    ),
]
SingleImage = Annotated[
    list[Base64], Field(min_length=1, max_length=1, description="one, as in /api/predict")
]
PipelineNames = Annotated[
    list[Name], Field(min_length=1, max_length=DEFAULT_LIMITS.max_images, fail_fast=True)
]
Position = Annotated[list[Share], Field(min_length=2, max_length=2, description="[x, y]")]

# ---------------------------------------------------------------- requests


class ApiRequest(BaseModel):
    """A request. Unknown keys are errors, and so are values of another type."""

    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False, frozen=True)

    @model_validator(mode="before")
    @classmethod
    def _check_keys(cls, value: object) -> object:
        """Refuse an unknown key with the keys that are allowed, which pydantic's message leaves out."""
        keys = value if isinstance(value, dict) else {}
        unknown = [str(key) for key in keys if key not in cls.model_fields]
        if unknown:
            name, known = unknown[0][:MAX_NAME_LENGTH], list(cls.model_fields)
            hint, allowed = did_you_mean(name, known), ", ".join(known)
            raise ValueError(f"'{name}' is unknown.{hint} Allowed here: {allowed}")
        return value


class CorruptionRequest(ApiRequest):
    """How images are corrupted before they are classified or denoised."""

    name: Name | None = Field(None, description="of a corruption; the study's own if left out")
    strength: Annotated[float, Field(ge=0, le=1e6, description="in the corruption's unit")]
    seed: SeedNumber = Field(0, description="the same seed draws the same noise, at every strength")


class ImagesRequest(ApiRequest):
    """Images, or one picture."""

    images: SingleImages | None = None
    picture: Base64 | None = Field(
        None, description="base64 of a PNG, JPEG, BMP or WebP file, preprocessed like training images"
    )
    corruption: CorruptionRequest | None = None

    @model_validator(mode="after")
    def _check_one(self) -> "ImagesRequest":
        if (self.images is None) == (self.picture is None):
            raise ValueError("give either images or a picture")
        return self


class PredictRequest(ImagesRequest):
    """Images to classify, and by which pipelines."""

    pipelines: PipelineNames | None = Field(
        None, description="ids from /api/networks; the first one if left out"
    )


class DenoiseRequest(ImagesRequest):
    """Images to denoise."""

    denoiser: Name | None = Field(None, description="from /api/networks; the first one if left out")


class InspectRequest(ImagesRequest):
    """One image, and the pipeline to look inside."""

    images: SingleImage | None = None
    pipeline: Name | None = Field(None, description="id from /api/networks; the first one if left out")


class GenerateRequest(ApiRequest):
    """New images: from a sampler, between four of its latent codes, or near an image."""

    decoder: Name | None = Field(None, description="id from /api/networks; the first one if left out")
    sampler: Name | None = Field(None, description="its name; 'mixture' if left out")
    count: Annotated[int, Field(ge=1, le=DEFAULT_LIMITS.max_samples)] = Field(
        16, description="ignored with `positions`"
    )
    seed: SeedNumber = 0
    positions: (
        Annotated[list[Position], Field(min_length=1, max_length=DEFAULT_LIMITS.max_samples, fail_fast=True)]
        | None
    ) = Field(None, description="in the unit square, with a latent code at each corner; an image for each")
    neighbors_of: Base64 | None = Field(None, description="an image as in `images`, whose code is perturbed")
    sigma: Annotated[float, Field(ge=0, le=2)] = Field(
        0.5, description="of that noise, in standard deviations of each unit"
    )

    @model_validator(mode="after")
    def _check_at_most_one(self) -> "GenerateRequest":
        if self.positions is not None and self.neighbors_of is not None:
            raise ValueError("give either positions or neighbors_of, not both")
        return self


# ---------------------------------------------------------------- responses


class PipelinePrediction(BaseModel):
    """What one pipeline predicts for one image."""

    pipeline: str
    denoised: Base64 = Field(description="the input of the classifier")
    label: str | None = Field(description="the most probable class; null where the pipeline abstains")
    probabilities: list[float] = Field(description="in the order of labels")
    abstained: Abstained | None = Field(description="why: the image is empty, or out of distribution")
    ood_score: float | None = Field(
        description="0: typical of training images; above 1: out of distribution; null while it is not known"
    )


class ImagePredictions(BaseModel):
    """One image, and what pipelines predict for it."""

    input: Base64
    corrupted: Base64
    predictions: list[PipelinePrediction]


class PredictResponse(BaseModel):
    """One entry for each image."""

    images: list[ImagePredictions]


class DenoisedImage(BaseModel):
    """One image, corrupted and denoised."""

    input: Base64
    corrupted: Base64
    denoised: Base64


class DenoiseResponse(BaseModel):
    """One entry for each image."""

    images: list[DenoisedImage]


class EncodedMaps(BaseModel):
    """Images of numbers, such as the activations of some units or their weights."""

    units: list[int] = Field(description="whose they are; numbers of units in the layer")
    shape: list[int] = Field(description="maps, channels, height, width; a dense layer has maps of 1 x 1")
    values: Base64 = Field(description="base64 of float32, little-endian, row by row")


class InspectedLayer(BaseModel):
    """What a layer computes for the image: the most active units first, a dense layer's in their order."""

    name: str = Field(description="of its module")
    types: list[str] = Field(description="its class, and those of normalization and activation after it")
    output_shape: list[int] = Field(description="of one image")
    maps: EncodedMaps


class InspectResponse(BaseModel):
    """What a pipeline's classifier computes inside."""

    pipeline: str
    input: Base64
    corrupted: Base64
    denoised: Base64 = Field(description="the input of the classifier")
    removed: EncodedMaps | None = Field(
        description="the corrupted image minus the denoised one, in [-1, 1]; null without a denoiser"
    )
    label: str = Field(description="the most probable class, which occlusion explains")
    layers: list[InspectedLayer] = Field(description="in the order in which the image passes them")
    filters: EncodedMaps | None = Field(description="weights of the first layer; null if they are no images")
    occlusion: EncodedMaps | None = Field(
        description="fall of the label's probability where a square is blank; null if it takes too long"
    )
    notes: list[str] = Field(description="what is missing, and why")


class Example(BaseModel):
    """A test image and its true class."""

    image: Base64
    label: str


class ExamplesResponse(BaseModel):
    """The first test image of each class; none where the run's dataset is not on this machine."""

    images: list[Example]


class DigitsResponse(BaseModel):
    """Digits of MNIST to train a network in the page: first those for training, then test images."""

    height: int
    width: int
    n_train: int
    images: Base64 = Field(description="bytes of all images, one after the other")
    labels: list[int]


class SampleLabel(BaseModel):
    """What the classifier predicts for a new image."""

    label: str
    probability: float


class GenerateResponse(BaseModel):
    """New images, and what a classifier predicts for each; no labels if there is no classifier."""

    images: list[Base64]
    labels: list[SampleLabel]


class ImageInfo(BaseModel):
    """Form of an image."""

    channels: int
    height: int
    width: int


class PipelineInfo(BaseModel):
    """A pipeline that can be asked, and its accuracy on the clean test set where that is known."""

    id: Pipeline
    parts: list[str]
    accuracy: Estimate | None
    accuracy_text: str = Field(description="the same as text; empty where it is not known")


class CorruptionInfo(BaseModel):
    """A corruption and the unit of its strength."""

    id: str
    unit: str
    max_strength: float
    description: str


class SamplerInfo(BaseModel):
    """A way of drawing latent codes."""

    id: str
    description: str


class DecoderInfo(BaseModel):
    """A network that makes images from latent codes."""

    id: str
    code_size: int
    samplers: list[SamplerInfo]
    latents_from: str = Field(description="what samplers are fitted to: 'training images' or 'samples'")


class LimitsInfo(BaseModel):
    """The limits that a client should know."""

    max_images: int
    max_samples: int
    max_body_bytes: int
    max_picture_pixels: int


class RecallCurve(BaseModel):
    """Mean recall of a pipeline at each strength, with the bounds of 95% intervals where all have some."""

    recall: list[float | None]
    low: list[float] | None
    high: list[float] | None


class RobustnessCurves(BaseModel):
    """Curves of the study's first robustness experiment that has results."""

    experiment: str
    corruption: str
    strengths: list[float]
    pipelines: dict[str, RecallCurve]


class CatalogInfo(BaseModel):
    """What is served: a run, or one trained model."""

    kind: Literal["run", "model"]
    title: str
    study: str | None = None
    profile: str | None = None


class NetworksResponse(CatalogInfo):
    """Everything that a client needs to know for its requests."""

    labels: list[str]
    image: ImageInfo
    preprocessing: Preprocessing
    pipelines: list[PipelineInfo]
    corruptions: list[CorruptionInfo]
    strengths: list[float] | None = Field(description="that the study measured")
    denoisers: list[str]
    decoders: list[DecoderInfo]
    ood_known: bool = Field(description="whether OOD scores are there; they are learned after the start")
    skipped: dict[str, str] = Field(description="experiments whose model can't be used, and why")
    limits: LimitsInfo
    robustness_curves: RobustnessCurves | None


class StudyResponse(BaseModel):
    """The run's results.json, and its progress; null where one model is served, or there are none yet."""

    results: Results | None = None
    progress: Progress | None = None
    has_report: bool = Field(default=False, description="whether /report.html is there")


class HealthResponse(BaseModel):
    """That the server answers."""

    status: Literal["ok"] = "ok"
    inklab: str
    study: str | None


class ErrorResponse(BaseModel):
    """One line: what was given, what is allowed, what to do."""

    error: str


# ---------------------------------------------------------------- values


def format_validation_error(error: ValidationError) -> str:
    """The first thing that is wrong with a request, in one line."""
    first = error.errors(include_url=False)[0]
    location = ".".join(str(part) for part in first["loc"])
    if first["type"] == "json_invalid":
        return f"the body is not JSON: {first['ctx']['error']}"
    value = first.get("input")
    if first["type"] in ("model_type", "model_attributes_type"):  # the message would name a class of ours
        return f"{location or 'the body'}: must be a JSON object, such as {{}}; see /openapi.json"
    is_short = first["type"] != "missing" and not isinstance(value, dict | list)
    note = f" (given: {_as_json(value)})" if is_short else ""
    message = first["msg"].removeprefix("Value error, ").removeprefix("Input ")
    if first["type"] == "too_short":
        minimum = first["ctx"]["min_length"]
        message = f"needs at least {minimum} {'entry' if minimum == 1 else 'entries'}"
    if first["type"] == "too_long":
        maximum = first["ctx"]["max_length"]
        message = f"takes at most {maximum} {'entry' if maximum == 1 else 'entries'}"
    return f"{location or 'the body'}: {message}{note}; see /openapi.json"


def _as_json(value: object) -> str:
    """A value of a request as the client wrote it, at most 60 characters of it."""
    return json.dumps(value, ensure_ascii=False, default=str)[:60]


def decode_images(
    images: Sequence[str], shape: tuple[int, int, int], name: str = "images"
) -> UInt8[np.ndarray, "n c h w"]:
    """Images from base64.

    Raises:
        HttpError: one is no base64, or has another size (422).

    Example:
        >>> decode_images(["AAD/"], (1, 1, 3)).tolist()
        [[[[0, 0, 255]]]]
    """
    size = shape[0] * shape[1] * shape[2]
    pixels = bytearray()
    for index, text in enumerate(images):
        raw = decode_base64(text, f"{name}[{index}]")
        if len(raw) != size:
            raise HttpError(
                422,
                f"{name}[{index}] has {len(raw):,} bytes; an image of {' x '.join(map(str, shape))} "
                f"(channels, height, width) has {size:,}",
            )
        pixels += raw
    return np.frombuffer(pixels, np.uint8).reshape(-1, *shape)


def decode_base64(text: str, name: str) -> bytes:
    """Bytes from base64.

    Raises:
        HttpError: it is none (422).
    """
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:
        raise HttpError(422, f"{name} is not base64: {error}") from error


def encode_image(image: UInt8[np.ndarray, "c h w"]) -> str:
    """An image as base64."""
    return base64.b64encode(image.tobytes()).decode("ascii")


def encode_maps(units: Sequence[int], values: Float32[np.ndarray, "n c h w"]) -> EncodedMaps:
    """Images of numbers, as the API returns them.

    Example:
        >>> encode_maps([3], np.ones((1, 1, 1, 1), np.float32)).values
        'AACAPw=='
    """
    encoded = base64.b64encode(np.ascontiguousarray(values, "<f4").tobytes()).decode("ascii")
    return EncodedMaps(units=list(units), shape=list(values.shape), values=encoded)

"""What requests are computed from: preprocessed pictures, corrupted images, latent codes of new images."""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import torch
from jaxtyping import Float32, UInt8
from safetensors.numpy import load, save

import inklab
from inklab.corruptions.corruption import Corruption, corruptions
from inklab.data.preprocessing import UPLOAD_FORMATS, open_image
from inklab.errors import DataError
from inklab.evaluation.samplers import Sampler, SamplerParams, samplers
from inklab.export.onnx_file import Session
from inklab.io.files import cache_dir, cached, fingerprint
from inklab.io.tensor_file import check_header
from inklab.ood import ReferenceImages, float_batches
from inklab.predictions import image_of
from inklab.records.components import Preprocessing
from inklab.records.plan import GenerationPlan
from inklab.seeding import Seed
from inklab.serve.middleware import HttpError, service_unavailable

DEFAULT_CORRUPTION = "salt_and_pepper"  # of a lone model, and of a study without a robustness experiment
DEFAULT_SAMPLER = "mixture"
POOL_SIZE = 4096  # codes of each sampler, drawn once: fitting a mixture takes seconds, choosing nothing
MIN_CODES_PER_COMPONENT = 10  # where there are the samples only, the mixture gets fewer components
VERSION = 2  # of the latent codes; a change invalidates caches

Latents = Float32[np.ndarray, "n d"]
T = TypeVar("T")


class BoundedThread:
    """A thread for work that takes long, one piece at a time.

    Args:
        name: of the thread.
        max_queued: pieces of work that may wait, with the one under way.
        refusal: why further ones are refused.
    """

    def __init__(self, name: str, max_queued: int, refusal: str) -> None:
        self._refusal, self._free_slots = refusal, max_queued
        self._pool = ThreadPoolExecutor(1, name)

    def stop(self) -> None:
        """Take no more."""
        self._pool.shutdown(wait=False, cancel_futures=True)

    async def run(self, compute: Callable[[], T]) -> T:
        """What `compute` returns. It is dropped if the request is cancelled before its turn.

        Raises:
            HttpError: too much waits already (503).
        """
        if self._free_slots <= 0:
            raise service_unavailable(self._refusal)
        self._free_slots -= 1
        try:
            return await asyncio.get_running_loop().run_in_executor(self._pool, compute)
        finally:
            self._free_slots += 1


class ImagePreprocessor:
    """Makes images of pictures, one at a time.

    Args:
        max_pixels: of a picture.
        max_queued: pictures that may wait.
    """

    def __init__(self, max_pixels: int, max_queued: int) -> None:
        self._max_pixels = max_pixels
        self._thread = BoundedThread(
            "inklab pictures", max_queued, "too many pictures wait for preprocessing"
        )

    def stop(self) -> None:
        """Take no more."""
        self._thread.stop()

    async def preprocess(self, content: bytes, config: Preprocessing) -> UInt8[np.ndarray, "1 c h w"]:
        """A picture as an image; an empty one where no strokes are found.

        Raises:
            HttpError: it is no picture or has too many pixels (422), or too many wait (503).
        """
        return await self._thread.run(lambda: self._preprocess(content, config))

    def _preprocess(self, content: bytes, config: Preprocessing) -> UInt8[np.ndarray, "1 c h w"]:
        try:
            picture = open_image(content, max_pixels=self._max_pixels, formats=UPLOAD_FORMATS)
        except DataError as error:
            raise HttpError(422, str(error)) from error
        return image_of(picture, config)[None]


# ---------------------------------------------------------------- corruptions


def default_corruption(study_corruption: str | None) -> str:
    """The study's own corruption, if it is a registered one.

    Code of a user's own that a plan names as its corruption is never run: a plan may come from anywhere.
    """
    own = study_corruption or DEFAULT_CORRUPTION
    return own if own in corruptions else DEFAULT_CORRUPTION


def available_corruptions(study_corruption: str | None) -> list[Corruption]:
    """Every registered corruption; first the study's own one, or salt and pepper."""
    first = default_corruption(study_corruption)
    return sorted(corruptions.all().values(), key=lambda entry: (entry.name != first, entry.name))


def corrupt_pixels(
    pixels: UInt8[np.ndarray, "n c h w"], name: str, strength: float, seed: int
) -> Float32[np.ndarray, "n c h w"]:
    """Corrupted images, as floats in [0, 1].

    The draws depend on the seed, the corruption and the number and size of the images, not on the strength:
    with one seed, a pixel that salt and pepper replaces is replaced at every larger strength too.

    Args:
        pixels: bytes.
        name: of a registered corruption.
        strength: in its unit.
        seed: seed of the draws.

    Raises:
        UnknownNameError: there is no such corruption.
        OutOfRangeError: the strength is too large.

    Example:
        >>> gray = np.full((1, 1, 2, 2), 51, np.uint8)
        >>> corrupt_pixels(gray, "salt_and_pepper", 0.0, 7).ravel().tolist() == [51 / np.float32(255)] * 4
        True
    """
    corruption = corruptions[name]
    draws = (Seed(seed) / "page" / name).draws()
    images = torch.from_numpy(pixels.astype(np.float32) / np.float32(255))
    corrupted: Float32[np.ndarray, "n c h w"] = corruption(images, strength, draws).numpy()
    return corrupted


def to_uint8(images: np.ndarray) -> UInt8[np.ndarray, "n c h w"]:
    """Floats in [0, 1] as the nearest bytes; bytes as they are."""
    if images.dtype == np.uint8:
        return images
    return np.asarray(np.rint(images * 255).clip(0, 255), np.uint8)


# ---------------------------------------------------------------- latent codes


@dataclass(frozen=True)
class LatentSampler:
    """The latent codes of a decoder: each sampler has drawn a pool of them, and requests choose among these.

    Attributes:
        pools: codes by sampler.
        std: of each unit over training images.
        lower_bound: of all units over training images: 0 behind a ReLU, else minus infinity.
    """

    pools: Mapping[str, Latents]
    std: Float32[np.ndarray, " d"]
    lower_bound: float

    def sample(self, sampler: str, count: int, seed: int) -> Latents:
        """Different codes out of a sampler's pool."""
        codes: Latents = self.pools[sampler][_rng(seed).permutation(POOL_SIZE)[:count]]
        return codes

    def interpolate(self, sampler: str, positions: Sequence[Sequence[float]], seed: int) -> Latents:
        """Codes between four that a sampler drew, which are at (0, 0), (1, 0), (0, 1) and (1, 1)."""
        corners = self.sample(sampler, 4, seed)
        x, y = np.array(positions, np.float32).T
        weights = np.stack([(1 - x) * (1 - y), x * (1 - y), (1 - x) * y, x * y], axis=1)
        return np.asarray(weights @ corners, np.float32)

    def perturb(self, code: Float32[np.ndarray, "1 d"], count: int, sigma: float, seed: int) -> Latents:
        """Codes near one: normal noise of so many standard deviations is added to each unit."""
        noise = sigma * self.std * _rng(seed).standard_normal((count, code.shape[1]))
        return np.asarray(np.maximum(code + noise, self.lower_bound), np.float32)


def _rng(seed: int) -> np.random.Generator:
    return (Seed(seed) / "page" / "codes").rng()


def available_samplers(generation: GenerationPlan | None) -> list[Sampler]:
    """The study's samplers, then every other that is registered."""
    own = [name for name in generation.samplers if name in samplers] if generation else []
    return [samplers[name] for name in dict.fromkeys((*own, *samplers))]


def fit_latent_sampler(
    encode: Session, weights_sha256: str, references: ReferenceImages, generation: GenerationPlan | None
) -> LatentSampler:
    """Fit every sampler to the codes of training images, or take its codes from the cache.

    Args:
        encode: the encoder.
        weights_sha256: of its network.
        references: training images.
        generation: the study's experiment, for the settings of samplers; None if it has none.
    """
    n_images = len(references.training)
    settings = {name: _sampler_params(entry, generation, n_images) for name, entry in samplers.all().items()}
    key = [VERSION, inklab.__version__, POOL_SIZE, weights_sha256, references.identity, settings]

    def draw() -> bytes:
        codes = np.concatenate([encode(batch)["codes"] for batch in float_batches(references.training)])
        pools = {
            name: samplers[name](codes, POOL_SIZE, (Seed(0) / "page" / "pool" / name).rng(), params).codes
            for name, params in settings.items()
        }
        return save({**pools, "std ": codes.std(axis=0), "min ": codes.min(axis=0)})

    name = f"codes-{fingerprint(key)}.safetensors"
    arrays = load(check_header(cached(cache_dir("onnx") / name, draw), name))
    std, lowest = arrays.pop("std "), arrays.pop("min ")  # no sampler has such a name, for the space
    return LatentSampler(arrays, std, 0.0 if (lowest >= 0).all() else -np.inf)


def _sampler_params(sampler: Sampler, generation: GenerationPlan | None, n_images: int) -> SamplerParams:
    """A sampler's parameters as the study has them; fewer components where there are few images."""
    params = dict(sampler.params)
    if "max_fit_images" in params and generation:
        params["max_fit_images"] = generation.max_fit_images
    if "mixture_components" in params:
        components = generation.mixture_components if generation else params["mixture_components"]
        params["mixture_components"] = max(1, min(int(components), n_images // MIN_CODES_PER_COMPONENT))
    return params

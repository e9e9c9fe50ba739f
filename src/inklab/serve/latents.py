"""New images from a decoder: each sampler draws latent codes once, and requests choose among them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float32
from safetensors.numpy import load, save

import inklab
from inklab.evaluation.samplers import Sampler, SamplerParams, samplers
from inklab.export.onnx_runtime import Session
from inklab.io.files import fingerprint
from inklab.io.tensor_file import check_header
from inklab.records.plan import GenerationPlan
from inklab.seeding import Seed
from inklab.serve.network_cache import cached
from inklab.serve.ood import ReferenceImages, float_batches

POOL_SIZE = 4096  # codes of each sampler, drawn once: fitting a mixture takes seconds, choosing nothing
MIN_CODES_PER_COMPONENT = 10  # where there are the samples only, the mixture gets fewer components
DEFAULT_SAMPLER = "mixture"
VERSION = 2  # of what is computed here; a change invalidates caches

Latents = Float32[np.ndarray, "n d"]


@dataclass(frozen=True)
class LatentSampler:
    """The latent codes of a decoder.

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

    def make() -> bytes:
        codes = np.concatenate([encode(batch)["codes"] for batch in float_batches(references.training)])
        pools = {name: _draw_pool(samplers[name], codes, settings[name]) for name in settings}
        return save({**pools, "std ": codes.std(axis=0), "min ": codes.min(axis=0)})

    name = f"codes-{fingerprint(key)}.safetensors"
    arrays = load(check_header(cached(name, make), name))
    std, lowest = arrays.pop("std "), arrays.pop("min ")  # no sampler has such a name, for the space
    return LatentSampler(arrays, std, 0.0 if (lowest >= 0).all() else -np.inf)


def _sampler_params(sampler: Sampler, generation: GenerationPlan | None, n_images: int) -> SamplerParams:
    """A sampler's parameters as the study has them; fewer components where there are few images."""
    params = dict(sampler.params)
    if "mixture_components" in params:
        n_components = generation.mixture_components if generation else int(params["mixture_components"])
        params["mixture_components"] = max(1, min(n_components, n_images // MIN_CODES_PER_COMPONENT))
    if "max_fit_images" in params and generation:
        params["max_fit_images"] = generation.max_fit_images
    return params


def _draw_pool(sampler: Sampler, codes: Latents, params: SamplerParams) -> Float32[np.ndarray, "m d"]:
    rng = (Seed(0) / "page" / "pool" / sampler.name).rng()
    return sampler(codes.astype(np.float64), POOL_SIZE, rng, params).codes

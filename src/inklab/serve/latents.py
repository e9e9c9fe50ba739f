"""New images from a decoder: codes are drawn by each sampler once, and requests choose among them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float32
from safetensors.numpy import load, save

import inklab
from inklab.evaluation.samplers import Sampler, samplers
from inklab.export.onnx_runtime import Session
from inklab.io.documents import fingerprint
from inklab.io.tensor_file import check_header
from inklab.seeding import Seed
from inklab.serve.network_cache import cached
from inklab.serve.ood import ReferenceImages, in_blocks

POOL = 4096  # codes that each sampler draws, once: fitting a mixture takes seconds, choosing nothing
MIN_PER_COMPONENT = 10  # codes; where there are the samples only, the mixture gets fewer components
DEFAULT_SAMPLER = "mixture"  # of the samplers, unless a request names one
DEFAULT_SIGMA = 0.5  # of `near`, unless a request says so; as the sampler "perturbed" has it
VERSION = 1

Codes = Float32[np.ndarray, "n d"]


@dataclass(frozen=True)
class LatentSampler:
    """A decoder's codes.

    Attributes:
        pools: codes by sampler.
        spread: of each unit over training images, a standard deviation.
        least: what no unit of them goes below: 0 behind a ReLU, else minus infinity.
    """

    pools: Mapping[str, Codes]
    spread: Float32[np.ndarray, " d"]
    least: float

    def drawn(self, sampler: str, count: int, seed: int) -> Codes:
        """Different codes out of a sampler's pool."""
        chosen: Codes = self.pools[sampler][_rng(seed).permutation(POOL)[:count]]
        return chosen

    def walk(self, sampler: str, places: Sequence[tuple[float, float]], seed: int) -> Codes:
        """Codes between four that a sampler drew, which stand at (0, 0), (1, 0), (0, 1) and (1, 1)."""
        corners = self.drawn(sampler, 4, seed)
        x, y = np.array(places, np.float32).T
        shares = np.stack([(1 - x) * (1 - y), x * (1 - y), (1 - x) * y, x * y], axis=1)
        return np.asarray(shares @ corners, np.float32)

    def around(self, code: Float32[np.ndarray, "1 d"], count: int, spread: float, seed: int) -> Codes:
        """Codes near one; each unit is moved by so many of its standard deviations."""
        moved = code + spread * self.spread * _rng(seed).standard_normal((count, code.shape[1]))
        return np.asarray(np.maximum(moved, self.least), np.float32)


def _rng(seed: int) -> np.random.Generator:
    return (Seed(seed) / "page" / "codes").rng()


def available_samplers(generator: Mapping[str, Any]) -> list[Sampler]:
    """The study's samplers, then every other that is registered."""
    asked = [name for name in generator.get("samplers", ()) if name in samplers]
    return [samplers[name] for name in dict.fromkeys((*asked, *samplers))]


def latent_sampler(
    encode: Session, weights: str, references: ReferenceImages, generator: Mapping[str, Any]
) -> LatentSampler:
    """Fit every sampler to the codes of training images, or take what was drawn before from the cache.

    Args:
        encode: the encoder.
        weights: the SHA-256 of its network's weights.
        references: training images.
        generator: the study's chapter, for its settings; may be empty.
    """
    settings = {name: _settings(name, generator, len(references.training)) for name in samplers}
    key = [VERSION, inklab.__version__, POOL, weights, references.identity, settings]

    def make() -> bytes:
        codes = _codes(encode, references)
        drawn = {name: _pool(name, codes, settings[name]) for name in samplers}
        return save({**drawn, "spread ": codes.std(axis=0), "least ": codes.min(axis=0)})

    name = f"codes-{fingerprint(key)}.safetensors"
    found = load(check_header(cached(name, make), name))
    spread, least = found.pop("spread "), found.pop("least ")
    return LatentSampler(found, spread, 0.0 if (least >= 0).all() else -np.inf)


def _codes(encode: Session, references: ReferenceImages) -> Codes:
    return np.concatenate([encode(each)["codes"] for each in in_blocks(references.training)])


def _settings(name: str, generator: Mapping[str, Any], images: int) -> dict[str, Any]:
    """A sampler's settings as the study has them; fewer components where there are few images."""
    found = {**samplers[name].settings}
    found |= {key: generator[key] for key in found if key in generator}
    if "components" in found:
        found["components"] = max(1, min(int(found["components"]), images // MIN_PER_COMPONENT))
    return found


def _pool(name: str, codes: Codes, settings: Mapping[str, Any]) -> Float32[np.ndarray, "m d"]:
    rng = (Seed(0) / "page" / "pool" / name).rng()
    return samplers[name](codes.astype(np.float64), POOL, rng, settings).codes

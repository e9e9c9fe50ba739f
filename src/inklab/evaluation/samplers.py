"""Samplers: how a decoder's codes are drawn when images are generated. `docs/samplers.md` compares them."""

import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from jaxtyping import Float, Float64
from numpy.random import Generator
from pydantic import JsonValue

from inklab.errors import ConfigError, DataError, UnknownNameError
from inklab.registry import Registry

if TYPE_CHECKING:
    from sklearn.mixture import GaussianMixture

# Of the mixture, measured on codes of 96 units of a dense denoiser, 44% of them exactly zero.
MIN_VARIANCE = 1e-3  # of each component, in units of the codes' own variance: units that never fire have none
TOLERANCE = 1e-2  # gain in log-likelihood; a tenth of it takes 12% longer and gains nothing
MAX_ITERATIONS = 30


class Codes(NamedTuple):
    """New codes, and information about how they were drawn.

    Attributes:
        codes: `(count, d)`, in no particular order.
        info: for the report, such as whether a fit converged.
    """

    codes: Float[np.ndarray, "count d"]
    info: dict[str, JsonValue]


CodesArray = Float64[np.ndarray, "n d"]
SamplerParams = Mapping[str, float | int]
SampleFn = Callable[[CodesArray, int, Generator, SamplerParams], Codes]
"""Codes of clean training images, how many to draw, a generator and parameters to new codes."""


@dataclass(frozen=True)
class Sampler:
    """One way to draw codes for a decoder.

    Attributes:
        name: what studies call it.
        description: in a few words, for the report and the listing.
        params: its parameters with their defaults.
        fn: the function itself.
    """

    name: str
    description: str
    params: SamplerParams
    fn: SampleFn = field(repr=False)

    def __call__(
        self,
        codes: Float[np.ndarray, "n d"],
        count: int,
        rng: Generator,
        params: SamplerParams = MappingProxyType({}),
    ) -> Codes:
        """Draw new codes like those of at least two clean training images.

        The same arguments and state of `rng` give the same codes. `params` replace the defaults.

        Returns:
            `(count, d)` float32 codes, and information about the fit.

        Raises:
            UnknownNameError: this sampler has no such parameter.
            ConfigError: a parameter is out of range.
            DataError: there are too few codes, or they are not finite.

        Example:
            >>> codes = np.array([[0.0, 2.0], [4.0, 2.0]])
            >>> drawn = samplers["uniform"](codes, 3, np.random.default_rng(0))
            >>> drawn.codes.shape, drawn.codes[:, 1].tolist()
            ((3, 2), [2.0, 2.0, 2.0])
        """
        if len(codes) < 2 or count < 1:
            raise DataError(f"{len(codes)} codes to fit and {count} to draw; at least 2 and 1 are needed")
        if not np.isfinite(codes).all():
            raise DataError("some codes are NaN or infinite; did the training of the encoder diverge?")
        for name in params:
            if name not in self.params:
                raise UnknownNameError(f"parameter of sampler '{self.name}'", name, self.params)
        drawn, info = self.fn(codes.astype(np.float64), count, rng, {**self.params, **params})
        if drawn.shape != (count, codes.shape[1]):
            raise DataError(
                f"sampler '{self.name}' drew codes of shape {drawn.shape}, expected {(count, codes.shape[1])}"
            )
        return Codes(drawn.astype(np.float32), info)


samplers: Registry[Sampler] = Registry("sampler", "inklab.evaluation")
"""Every sampler by name."""


def sampler(
    name: str, *, description: str, params: SamplerParams = MappingProxyType({})
) -> Callable[[SampleFn], Sampler]:
    """Register the decorated function as a sampler; the arguments are the attributes of `Sampler`."""
    return lambda fn: samplers.add(name, Sampler(name, description, params, fn))


@sampler("binary", description="each unit 0 or 1 with equal probability; ignores the codes")
def binary(codes: CodesArray, count: int, rng: Generator, params: SamplerParams) -> Codes:
    """Ignores the codes of training images; shows why their distribution matters."""
    return Codes(rng.integers(0, 2, (count, codes.shape[1])).astype(np.float64), {})


@sampler("uniform", description="each unit uniform between its smallest and largest value in training")
def uniform(codes: CodesArray, count: int, rng: Generator, params: SamplerParams) -> Codes:
    """The right range for every unit, but no dependence between units."""
    return Codes(rng.uniform(codes.min(axis=0), codes.max(axis=0), (count, codes.shape[1])), {})


@sampler("gaussian", description="one normal distribution with the mean and covariance of the codes")
def gaussian(codes: CodesArray, count: int, rng: Generator, params: SamplerParams) -> Codes:
    """The right covariance of units, but no clusters of digits."""
    mean, covariance = codes.mean(axis=0), np.atleast_2d(np.cov(codes, rowvar=False))
    return Codes(_clip(codes, _normal(mean, covariance, count, rng)), {})


@sampler(
    "mixture",
    description="a mixture of normal distributions, fitted to the codes",
    params={"mixture_components": 50, "max_fit_images": 20_000},
)
def mixture(codes: CodesArray, count: int, rng: Generator, params: SamplerParams) -> Codes:
    """Several clusters of codes, each with its own mean and covariance.

    `mixture_components` is at most the number of codes that are fitted, and `max_fit_images` the most codes
    that are fitted, drawn at random. The time of the fit grows with their product.
    """
    fit_indices = rng.permutation(len(codes))[: int(params["max_fit_images"])]
    components = int(params["mixture_components"])
    if not 1 <= components <= len(fit_indices):
        raise ConfigError(
            f"mixture_components = {components}; allowed: 1 to {len(fit_indices)}, the codes to fit",
            key="mixture_components",
        )
    scale = float(codes.std()) or 1.0  # one number for all units, which preserves their relative spread
    fit = _fit_mixture(codes[fit_indices] / scale, components, int(rng.integers(2**31)))
    weights, means, covariances = (
        part.astype(np.float64) for part in (fit.weights_, fit.means_, fit.covariances_)
    )
    clusters = rng.choice(components, size=count, p=weights / weights.sum())
    drawn = np.empty((count, codes.shape[1]))
    for cluster in range(components):
        chosen = clusters == cluster
        drawn[chosen] = _normal(means[cluster], covariances[cluster], int(chosen.sum()), rng)
    info: dict[str, JsonValue] = {
        "components": components, "fit_images": len(fit_indices),
        "converged": bool(fit.converged_), "iterations": int(fit.n_iter_),
    }  # fmt: skip
    return Codes(_clip(codes, drawn * scale), info)


@sampler("perturbed", description="the code of a training image plus normal noise", params={"sigma": 0.5})
def perturbed(codes: CodesArray, count: int, rng: Generator, params: SamplerParams) -> Codes:
    """Near training images: recognizable, and only as new as the noise is large.

    `sigma` is the standard deviation of the noise, in units of each unit's own standard deviation.
    """
    sigma = float(params["sigma"])
    if not 0 <= sigma < np.inf:
        raise ConfigError(f"sigma = {sigma:g}; allowed: 0 or more", key="sigma")
    real = codes[rng.integers(0, len(codes), count)]
    noise = sigma * codes.std(axis=0) * rng.standard_normal(real.shape)
    return Codes(_clip(codes, real + noise), {})


def _fit_mixture(codes: CodesArray, components: int, seed: int) -> "GaussianMixture":
    """Fit by expectation maximization; a fit that ends before convergence can still be drawn from."""
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.mixture import GaussianMixture

    model = GaussianMixture(
        components, reg_covar=MIN_VARIANCE, tol=TOLERANCE, max_iter=MAX_ITERATIONS, random_state=seed
    )
    with warnings.catch_warnings():
        # Of the mixture: not converged, which `info` reports. Of k-means before it: fewer distinct codes than
        # components.
        warnings.simplefilter("ignore", ConvergenceWarning)
        return model.fit(codes.astype(np.float32))  # half the time of float64, the same confident share


def _normal(
    mean: Float64[np.ndarray, " d"], covariance: Float64[np.ndarray, "d d"], count: int, rng: Generator
) -> CodesArray:
    """Normal draws; the covariance may be singular, as with a unit that never fires."""
    values, vectors = np.linalg.eigh(covariance)
    root = vectors * np.sqrt(values.clip(min=0))
    drawn: CodesArray = mean + rng.standard_normal((count, len(mean))) @ root.T
    return drawn


def _clip(codes: CodesArray, drawn: Float64[np.ndarray, "count d"]) -> Float64[np.ndarray, "count d"]:
    """Set negative values to 0 if no code of a training image has any.

    After a ReLU the decoder was never given a negative number, and its output for one is arbitrary.
    """
    clipped: CodesArray = np.maximum(drawn, 0.0 if (codes >= 0).all() else -np.inf)
    return clipped

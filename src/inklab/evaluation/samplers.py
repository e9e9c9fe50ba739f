"""Where a decoder's codes come from when new images are drawn. `docs/samplers.md` tells them apart."""

import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Float64

from inklab.errors import ConfigError, DataError, did_you_mean
from inklab.registry import Registry

REAL_DATA_BASELINE = "floor"  # the evaluation that measures what the generator's scores are compared with


# Settings of the mixture, measured on 96 codes of a dense denoiser, 44 % of them exactly zero.
MIN_VARIANCE = 1e-3  # of each component, in units of the codes' own variance: units that never fire have none
TOLERANCE = (
    1e-2  # gain in log-likelihood below which fitting ends; a tenth of it cost 12 % more and gained nothing
)
MAX_ROUNDS = 30


class Codes(NamedTuple):
    """New codes, and what there is to say about how they came about.

    Attributes:
        codes: `(count, d)`, in no particular order.
        info: facts for the report, such as whether a fit converged; JSON values.
    """

    codes: Float[np.ndarray, "count d"]
    info: dict[str, object]


SamplerParams = Mapping[str, float | int]
SampleFn = Callable[[Float64[np.ndarray, "n d"], int, np.random.Generator, SamplerParams], Codes]
"""The function behind a sampler: codes of clean training images, how many to draw, a generator, settings."""


@dataclass(frozen=True)
class Sampler:
    """A way of drawing codes for a decoder.

    Attributes:
        name: what studies call it.
        description: in a few words, for the report and the listing.
        settings: the names of its settings with their usual values.
        run: the bare function.
    """

    name: str
    description: str
    settings: SamplerParams
    run: SampleFn = field(repr=False)

    def __call__(
        self,
        codes: Float[np.ndarray, "n d"],
        count: int,
        rng: np.random.Generator,
        settings: SamplerParams | None = None,
    ) -> Codes:
        """Draw new codes. The same arguments and state of `rng` give the same codes.

        Args:
            codes: `(n, d)` what the encoder makes of clean training images, n at least 2.
            count: how many to draw, at least 1.
            rng: where the draws come from.
            settings: values in place of the usual ones.

        Returns:
            `(count, d)` float32 codes, and facts about the fit.

        Raises:
            ConfigError: a setting that this sampler does not have, or a value it cannot use.
            DataError: too few codes, or codes that are not finite.

        Example:
            >>> codes = np.array([[0.0, 2.0], [4.0, 2.0]])
            >>> drawn = samplers["uniform"](codes, 3, np.random.default_rng(0))
            >>> drawn.codes.shape, drawn.codes[:, 1].tolist()
            ((3, 2), [2.0, 2.0, 2.0])
        """
        if len(codes) < 2 or count < 1:
            raise DataError(
                f"{len(codes)} codes to learn from and {count} to draw; at least 2 and 1 are needed"
            )
        if not np.isfinite(codes).all():
            raise DataError("some codes are NaN or infinite; did the training of the encoder diverge?")
        drawn, info = self.run(codes.astype(np.float64), count, rng, self._complete(settings or {}))
        if drawn.shape != (count, codes.shape[1]):
            raise DataError(
                f"sampler '{self.name}' drew codes of shape {drawn.shape}, expected {(count, codes.shape[1])}"
            )
        return Codes(drawn.astype(np.float32), info)

    def _complete(self, settings: SamplerParams) -> SamplerParams:
        for name in settings:
            if name not in self.settings:
                known = ", ".join(sorted(self.settings)) or "none"
                raise ConfigError(
                    f"sampler '{self.name}' has no setting '{name}'."
                    f"{did_you_mean(name, self.settings)} Known: {known}."
                )
        return {**self.settings, **settings}


samplers: Registry[Sampler] = Registry("sampler", "inklab.evaluation")
"""Every sampler by name."""


def sampler(
    name: str, *, description: str, settings: SamplerParams = MappingProxyType({})
) -> Callable[[SampleFn], Sampler]:
    """Register the decorated function as a sampler.

    Args:
        name: what studies call it.
        description: in a few words, for the report and the listing.
        settings: the names of its settings with their usual values.
    """

    def register(run: SampleFn) -> Sampler:
        made = Sampler(name, description, settings, run)
        samplers.add(name, made)
        return made

    return register


@sampler("binary", description="each unit 0 or 1 with equal chance, as the source did")
def binary(
    codes: Float64[np.ndarray, "n d"], count: int, rng: np.random.Generator, settings: SamplerParams
) -> Codes:
    """Look at nothing but the number of units; what comes out shows why the codes' distribution matters."""
    return Codes(rng.integers(0, 2, (count, codes.shape[1])).astype(np.float64), {})


@sampler("uniform", description="each unit uniform between its smallest and largest value in training")
def uniform(
    codes: Float64[np.ndarray, "n d"], count: int, rng: np.random.Generator, settings: SamplerParams
) -> Codes:
    """Right in the range of every unit, wrong in everything between units."""
    return Codes(rng.uniform(codes.min(axis=0), codes.max(axis=0), (count, codes.shape[1])), {})


@sampler("gaussian", description="one normal distribution with the mean and covariance of the codes")
def gaussian(
    codes: Float64[np.ndarray, "n d"], count: int, rng: np.random.Generator, settings: SamplerParams
) -> Codes:
    """Right in how units go together on the whole; wrong in that digits come in kinds."""
    mean, covariance = codes.mean(axis=0), np.atleast_2d(np.cov(codes, rowvar=False))
    return Codes(_clip(codes, _normal(mean, covariance, count, rng)), {})


@sampler(
    "mixture",
    description="a mixture of normal distributions, fitted to the codes",
    settings={"components": 50, "fit_images": 20_000},
)
def mixture(
    codes: Float64[np.ndarray, "n d"], count: int, rng: np.random.Generator, settings: SamplerParams
) -> Codes:
    """Several kinds of digit, each with a mean and a covariance of its own.

    Settings:
        components: how many; at most as many as codes to fit to.
        fit_images: fit to at most so many codes, drawn at random; time grows with components times this.
    """
    some = rng.permutation(len(codes))[: int(settings["fit_images"])]
    components = int(settings["components"])
    if not 1 <= components <= len(some):
        raise ConfigError(
            f"components = {components}; allowed: 1 to {len(some)}, the number of codes to fit to"
        )
    scale = float(codes.std()) or 1.0  # one number for all units, which keeps their relative spread
    fit, converged, rounds = _fit_mixture(codes[some] / scale, components, int(rng.integers(2**31)))
    kinds = rng.choice(components, size=count, p=fit.weights / fit.weights.sum())
    drawn = np.empty((count, codes.shape[1]))
    for kind in range(components):
        drawn[kinds == kind] = _normal(
            fit.means[kind], fit.covariances[kind], int((kinds == kind).sum()), rng
        )
    info: dict[str, object] = {
        "components": components,
        "fitted_on": len(some),
        "converged": converged,
        "rounds": rounds,
    }
    return Codes(_clip(codes, drawn * scale), info)


@sampler(
    "perturbed",
    description="the code of a real training image plus noise: the source's own proposal",
    settings={"spread": 0.5},
)
def perturbed(
    codes: Float64[np.ndarray, "n d"], count: int, rng: np.random.Generator, settings: SamplerParams
) -> Codes:
    """Stay near what was seen: recognisable, and only as new as the noise is large.

    Settings:
        spread: standard deviation of the noise, in units of each unit's own standard deviation; 0 or more.
    """
    spread = float(settings["spread"])
    if not 0 <= spread < np.inf:
        raise ConfigError(f"spread = {spread:g}; allowed: 0 or more")
    real = codes[rng.integers(0, len(codes), count)]
    noise = spread * codes.std(axis=0) * rng.standard_normal(real.shape)
    return Codes(_clip(codes, real + noise), {})


class _Fit(NamedTuple):
    weights: Float64[np.ndarray, " k"]
    means: Float64[np.ndarray, "k d"]
    covariances: Float64[np.ndarray, "k d d"]


def _fit_mixture(codes: Float64[np.ndarray, "n d"], components: int, seed: int) -> tuple[_Fit, bool, int]:
    """Fit by expectation maximisation; one that stops before it has converged is still good to draw from."""
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.mixture import GaussianMixture

    model = GaussianMixture(
        components, reg_covar=MIN_VARIANCE, tol=TOLERANCE, max_iter=MAX_ROUNDS, random_state=seed
    )
    with warnings.catch_warnings():
        # Mixture: not converged, which `info` tells. K-means before it: fewer distinct codes than components.
        warnings.simplefilter("ignore", ConvergenceWarning)
        model.fit(codes.astype(np.float32))  # half the time of float64, the same share of recognised digits
    fit = _Fit(*(part.astype(np.float64) for part in (model.weights_, model.means_, model.covariances_)))
    return fit, bool(model.converged_), int(model.n_iter_)


def _normal(
    mean: Float64[np.ndarray, " d"],
    covariance: Float64[np.ndarray, "d d"],
    count: int,
    rng: np.random.Generator,
) -> Float64[np.ndarray, "count d"]:
    """Normal draws; the covariance may be singular, as it is where a unit never fires."""
    values, vectors = np.linalg.eigh(covariance)
    root = vectors * np.sqrt(values.clip(min=0))
    drawn: Float64[np.ndarray, "count d"] = mean + rng.standard_normal((count, len(mean))) @ root.T
    return drawn


def _clip(
    codes: Float64[np.ndarray, "n d"], drawn: Float64[np.ndarray, "count d"]
) -> Float64[np.ndarray, "count d"]:
    """Cut off below 0 where the codes of training images never go there.

    Behind a ReLU the decoder has seen no negative number, and what it makes of one is arbitrary.
    Codes without such a bound are left alone.
    """
    least = 0.0 if (codes >= 0).all() else -np.inf
    kept: Float64[np.ndarray, "count d"] = np.maximum(drawn, least)
    return kept

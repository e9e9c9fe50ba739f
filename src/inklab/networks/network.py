"""What a model is: a function that builds a plain `nn.Module`, found by name or in a user's own file.

Signatures are read without importing torch, so a misspelt setting is refused at once.
"""

import inspect
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from reprlib import repr as shortened
from typing import TYPE_CHECKING, Any, Literal

from inklab.errors import ConfigError, InklabError, ModelMismatchError, did_you_mean
from inklab.registry import Registry
from inklab.seeding import Seed
from inklab.usercode import is_user_code, load_object, source_sha256

if TYPE_CHECKING:
    from torch import nn

Shape = tuple[int, int, int]
"""Channels, height, width of one image."""

MAX_SETTINGS = 4_000  # characters of a model's settings as Python writes them; each layer takes a few


@dataclass(frozen=True)
class RegisteredModel:
    """A way to build a network.

    Attributes:
        name: what studies and the command line call it.
        build: `(shape, classes, **settings) -> nn.Module`, mapping `(n, c, h, w)` to logits.
        about: one line for `inklab models`.
        target: what the logits stand for, "labels" or "images", as in an objective: a model of images is
            trained by the recipe `denoise` unless another is named.
    """

    name: str
    build: Callable[..., "nn.Module"]
    about: str
    target: Literal["labels", "images"] = "labels"

    @property
    def settings(self) -> dict[str, object]:
        """What may be set, with its default."""
        parameters = inspect.signature(self.build).parameters.values()
        return {p.name: p.default for p in parameters if p.kind is p.KEYWORD_ONLY}

    def check(self, settings: Mapping[str, object]) -> None:
        """Refuse settings that this model does not have.

        Raises:
            ConfigError: with the nearest right name.
        """
        for key in settings:
            if key not in self.settings:
                allowed = ", ".join(self.settings) or "none"
                raise ConfigError(
                    f"model '{self.name}' has no setting '{key}'.{did_you_mean(key, self.settings)} "
                    f"Allowed: {allowed}."
                )


models: Registry[RegisteredModel] = Registry(
    "model", "inklab.networks", skip=("layers", "layer_table", "unet_layers")
)


def model(
    name: str, *, target: Literal["labels", "images"] = "labels"
) -> Callable[[Callable[..., "nn.Module"]], Callable[..., "nn.Module"]]:
    """Register a function `(shape, classes, *, ...settings) -> nn.Module` as a model.

    Its docstring's first line is what `inklab models` prints; its keyword-only arguments are the settings.
    """

    def register(build: Callable[..., "nn.Module"]) -> Callable[..., "nn.Module"]:
        about = (inspect.getdoc(build) or "").partition("\n")[0]
        models.add(name, RegisteredModel(name, build, about, target))
        return build

    return register


def check_model(settings: Mapping[str, Any]) -> str | None:
    """Check a model's name and settings without torch; returns the SHA-256 of user source, if it is any.

    Args:
        settings: `{"name": ..., ...settings}`.

    Raises:
        ConfigError: unknown name or setting, a missing file, or values that no network has: numbers that are
            not finite or beyond 64 bits, or thousands of them.
    """
    name = str(settings["name"])
    if not _plain(settings) or len(repr(dict(settings))) > MAX_SETTINGS:
        raise ConfigError(
            f"model '{name[:60]}' has settings that no network has: {shortened(dict(settings))}; allowed are "
            f"finite numbers, texts, and lists and tables of them, {MAX_SETTINGS:,} characters in all"
        )
    if is_user_code(name):
        return source_sha256(name)
    models[name].check({key: value for key, value in settings.items() if key != "name"})
    return None


def _plain(value: object) -> bool:
    """Whether a value is made of texts, truth values and numbers of 64 bits; of JSON that may be nested."""
    if isinstance(value, Mapping):
        return all(isinstance(key, str) and _plain(each) for key, each in value.items())
    if isinstance(value, list | tuple):
        return all(map(_plain, value))
    if isinstance(value, float):
        return math.isfinite(value)
    return value is None or isinstance(value, str) or (isinstance(value, int) and abs(value) < 2**63)


def build_net(settings: Mapping[str, Any], shape: Shape, classes: int, seed: Seed) -> "nn.Module":
    """Build a network with weights drawn from `seed`.

    Args:
        settings: `{"name": a registered name or "file.py:Name", ...settings}`.
        shape: channels, height, width of the images.
        classes: how many labels there are.
        seed: where the initial weights come from; the same seed gives the same bits.

    Returns:
        A module in training mode. A user's class gets `shape` and `classes` only if it asks for them.

    Raises:
        ConfigError: unknown name or setting.
        ModelMismatchError: the builder failed or did not return an `nn.Module`.
    """
    from torch import nn

    rest = {key: value for key, value in settings.items() if key != "name"}
    name = str(settings["name"])
    given: dict[str, object] = {"shape": shape, "classes": classes}
    with seed.as_global():
        if not is_user_code(name):
            models[name].check(rest)
            registered: nn.Module = _called(name, models[name].build, {**given, **rest})
            return registered
        thing = load_object(name)
        if not callable(thing):
            raise ModelMismatchError(f"'{name}' is a {type(thing).__name__}; name a class or a function")
        wanted = {key: value for key, value in given.items() if key in inspect.signature(thing).parameters}
        net = _called(name, thing, {**wanted, **rest})
    if not isinstance(net, nn.Module):
        raise ModelMismatchError(
            f"'{name}' gave a {type(net).__name__}, not an nn.Module; name a class or a function that "
            "returns one"
        )
    return net


def _called(name: str, build: Callable[..., Any], arguments: dict[str, object]) -> Any:
    try:
        return build(**arguments)
    except InklabError:
        raise
    except Exception as error:  # whatever a builder raises is told in one line
        told = f"{type(error).__name__}: {' '.join(str(error).split())}"
        raise ModelMismatchError(
            f"'{name}' can't be built with {str(arguments)[:300]}: {told[:300]}"
        ) from error

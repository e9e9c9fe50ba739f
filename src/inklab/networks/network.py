"""What a network is: a function that builds a plain `nn.Module`, registered by name or in a user's own file.

Signatures are read without importing torch, so a misspelled argument is refused at once.
"""

import inspect
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from reprlib import repr as shorten
from typing import TYPE_CHECKING, Any

from pydantic import TypeAdapter, ValidationError

from inklab.errors import (
    ConfigError,
    InklabError,
    ModelMismatchError,
    UnknownNameError,
    did_you_mean,
    format_error,
)
from inklab.metrics import Task
from inklab.records.components import NetworkConfig
from inklab.records.recipe import Recipe
from inklab.records.record import Shape, describe_error
from inklab.registry import Registry, registered_entry
from inklab.seeding import Seed
from inklab.usercode import is_live, is_user_code, short_name, source_sha256

if TYPE_CHECKING:
    from torch import nn

NetworkFn = Callable[..., "nn.Module"]
"""`(shape, classes, *, ...kwargs) -> nn.Module`, a module from `(n, c, h, w)` to logits."""

MAX_KWARGS = 4_000  # characters of a network's arguments as Python writes them; each layer takes a few


@dataclass(frozen=True)
class RegisteredNetwork:
    """A way to build a network.

    Attributes:
        name: what studies and the command line call it.
        fn: builds it.
        task: what it is trained for; a network for denoising is trained by the recipe `denoise` unless
            another is named.
    """

    name: str
    fn: NetworkFn
    task: Task = "classification"

    @property
    def description(self) -> str:
        """The first line of the function's docstring, for listings."""
        return (inspect.getdoc(self.fn) or "").partition("\n")[0]

    @property
    def defaults(self) -> dict[str, object]:
        """Its keyword arguments with their defaults."""
        parameters = inspect.signature(self.fn).parameters.values()
        return {p.name: p.default for p in parameters if p.kind is p.KEYWORD_ONLY}

    def check_kwargs(self, kwargs: Mapping[str, object]) -> None:
        """Refuse keyword arguments that this network does not have, and values of another type than theirs.

        Raises:
            UnknownNameError: with the nearest valid name.
            ConfigError: a value is not what the argument's annotation says.
        """
        annotations = inspect.get_annotations(self.fn)
        for key, value in kwargs.items():
            if key not in self.defaults:
                raise UnknownNameError(f"argument of network '{self.name}'", key, self.defaults)
            try:
                TypeAdapter(annotations.get(key, Any)).validate_python(value, strict=True)
            except ValidationError as error:
                problem = describe_error(error.errors(include_url=False)[0], key).message
                raise ConfigError(
                    f"network '{self.name}': {problem}; its default is {json.dumps(self.defaults[key])}",
                    key=f"network.{key}",
                ) from None


def _wrap(name: str, value: object) -> RegisteredNetwork:
    entry = registered_entry(value)
    if isinstance(entry, RegisteredNetwork):
        return replace(entry, name=name)
    if not callable(value) or hasattr(value, "state_dict") and not isinstance(value, type):
        raise ModelMismatchError(
            f"'{short_name(name)}' is of type {type(value).__name__}; name a class or a function that "
            "returns an nn.Module, so that each training can start from its own weights"
        )
    return RegisteredNetwork(name, value)


networks: Registry[RegisteredNetwork] = Registry(
    "network", "inklab.networks", skip=("layers", "layer_table"), wrap=_wrap
)
"""Every network by name."""


def network(name: str, *, task: Task = "classification") -> Callable[[NetworkFn], NetworkFn]:
    """Register a function `(shape, classes, *, ...kwargs) -> nn.Module` as a network.

    The first line of its docstring is its listing; its keyword-only arguments are what a study may set. Its
    task is "denoising" if its logits are pixels.
    """

    def register(fn: NetworkFn) -> NetworkFn:
        return networks.add_function(name, RegisteredNetwork(name, fn, task), fn)

    return register


def check_network(config: NetworkConfig) -> str | None:
    """Check a network's name and arguments without torch.

    Returns:
        The SHA-256 of the user's code; None for a registered network.

    Raises:
        ConfigError: an unknown name or argument, a missing file, or arguments that no network has: thousands
            of them, or integers beyond 64 bits.
        ModelMismatchError: an object of this session that is no class or function.
    """
    kwargs = config.kwargs
    if not _fits_64_bits(kwargs) or len(repr(kwargs)) > MAX_KWARGS:
        raise ConfigError(
            f"network '{config.name[:60]}' has invalid arguments: {shorten(kwargs)}; allowed are numbers "
            f"of 64 bits, strings, and lists and tables of them, at most {MAX_KWARGS:,} characters together"
        )
    if is_live(config.name):
        networks.resolve(config.name)
    if config.is_user_code:
        return source_sha256(config.name)
    networks[config.name].check_kwargs(kwargs)
    return None


def _fits_64_bits(value: object) -> bool:
    if isinstance(value, Mapping):
        return all(map(_fits_64_bits, value.values()))
    if isinstance(value, list):
        return all(map(_fits_64_bits, value))
    return not isinstance(value, int) or abs(value) < 2**63


def build_network(config: NetworkConfig, shape: Shape, n_classes: int, seed: Seed) -> "nn.Module":
    """Build a network with weights drawn from `seed`; the same seed gives the same bits.

    Returns:
        A module in training mode. A user's class gets `shape` and `classes` only if it has such arguments.

    Raises:
        ConfigError: an unknown name or argument.
        ModelMismatchError: building it failed, or did not give an `nn.Module`.
    """
    from torch import nn
    from torch.nn.parameter import UninitializedParameter

    facts: dict[str, object] = {"shape": shape, "classes": n_classes}
    with seed.as_global():
        entry = networks.resolve(config.name)
        if is_user_code(config.name):
            accepted = inspect.signature(entry.fn).parameters
            facts = {key: value for key, value in facts.items() if key in accepted}
        else:
            entry.check_kwargs(config.kwargs)
        net = _call(config.name, entry.fn, {**facts, **config.kwargs})
    if not isinstance(net, nn.Module):
        raise ModelMismatchError(
            f"'{short_name(config.name)}' returned a {type(net).__name__}, not an nn.Module; name a class or "
            "a function that returns one"
        )
    if any(isinstance(value, UninitializedParameter) for value in net.parameters()):
        _materialize(config.name, net, shape, seed)
    return net


def _materialize(name: str, net: "nn.Module", shape: Shape, seed: Seed) -> None:
    """Let lazy layers take their sizes, and their weights from the seed, by one forward pass."""
    import torch
    from torch.nn.parameter import UninitializedParameter

    training = {module: module.training for module in net.modules()}
    try:
        with torch.no_grad(), (seed / "lazy").as_global():
            net.eval()(torch.zeros(2, *shape))
    except Exception as error:  # a user's module may raise anything
        raise ModelMismatchError(
            f"'{short_name(name)}' fails on the images that its lazy layers should take their sizes from, of "
            f"shape {(2, *shape)}: {format_error(error)[:300]}"
        ) from error
    for module, mode in training.items():
        module.training = mode
    if unused := [key for key, value in net.named_parameters() if isinstance(value, UninitializedParameter)]:
        raise ModelMismatchError(
            f"lazy layers of '{short_name(name)}' have no size after a forward pass: {', '.join(unused)}; "
            "call them in forward(), or leave them out"
        )


def _call(name: str, fn: NetworkFn, arguments: dict[str, Any]) -> "nn.Module":
    try:
        return fn(**arguments)
    except InklabError:
        raise
    except Exception as error:  # a builder may raise anything
        raise ModelMismatchError(
            f"'{short_name(name)}' can't be built with {str(arguments)[:300]}: {format_error(error)[:300]}"
            f"{_nearest_argument(fn, arguments)}"
        ) from error


def _nearest_argument(fn: NetworkFn, arguments: Mapping[str, object]) -> str:
    """What an argument that the network does not have probably means: one of its own, or a recipe's field."""
    own = inspect.signature(fn).parameters
    known = [*own, *Recipe.model_fields]
    hints = [did_you_mean(key, known) for key in arguments if key not in own]
    return "." + "".join(hints) if any(hints) else ""

"""What a trained network computes inside: activations, filters of its first layer, and occlusion."""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import product

import numpy as np
import torch
from jaxtyping import Float, Float32
from torch import Tensor, nn
from torch.nn import functional

from inklab.errors import InklabError, ModelMismatchError, format_error
from inklab.model import TrainedModel
from inklab.networks.layer_table import ACTIVATIONS
from inklab.records.components import Preprocessing

MAX_LAYERS = 24
MAX_MAPS = 16  # of one layer
MAX_UNITS = 1024  # of a dense layer
MAX_MAP_SIDE = 32  # pixels; longer side; larger maps are averaged over blocks

NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.GroupNorm, nn.LayerNorm)
OCCLUSION_SECONDS = 2.0  # after which occlusion is given up
OCCLUSION_BATCH = 16
SQUARES_PER_SIDE = 7  # of an image: a square has 4 x 4 pixels of 28 x 28


@dataclass(frozen=True)
class FeatureMaps:
    """Some units of a layer.

    Attributes:
        units: their numbers in the layer.
        values: one map for each; a dense layer's are of 1 x 1, and so is `c` except for filters of colors.
    """

    units: tuple[int, ...]
    values: Float32[np.ndarray, "n c h w"]


@dataclass(frozen=True)
class LayerActivations:
    """What a layer computes for one image.

    Attributes:
        name: of its module.
        types: its class, and those of activation and normalization after it.
        output_shape: of one image.
        maps: a convolution's `MAX_MAPS` maps with the largest mean absolute value, in that order; a dense
            layer's first `MAX_UNITS` units in theirs.
    """

    name: str
    types: tuple[str, ...]
    output_shape: tuple[int, ...]
    maps: FeatureMaps


@dataclass(frozen=True)
class Inspection:
    """What a classifier computes inside for one image.

    Attributes:
        layers: in the order in which the image passes them.
        filters: weights of the first layer as images, for its most active units; None if they are none.
        occlusion: by how much the probability of the class falls where a square is blank; None if the
            network is too slow.
        notes: what is missing and why, a line each.
    """

    layers: tuple[LayerActivations, ...]
    filters: FeatureMaps | None
    occlusion: Float32[np.ndarray, "h w"] | None
    notes: tuple[str, ...]


def inspect(model: TrainedModel, image: Float32[np.ndarray, "1 c h w"], label: int) -> Inspection:
    """Look inside a classifier while it classifies an image.

    Args:
        model: a classifier; any network, since layers are found by hooks on its modules.
        image: in [0, 1].
        label: the class whose probability occlusion explains.

    Raises:
        ModelMismatchError: its network fails, or the model is a denoiser.

    Example:
        >>> import inklab
        >>> cnn = inklab.load("latest").model("cnn")  # doctest: +SKIP
        >>> [layer.name for layer in inspect(cnn, image, label=7).layers]  # doctest: +SKIP
    """
    pixels = torch.from_numpy(image)
    notes: list[str] = []
    try:
        layers = layer_activations(model.net.net, model.net.normalize(pixels))
        filters = first_filters(model.net.net, model.shape, layers[0]) if layers else None
        blank = blank_value(model.preprocessing)
        explained = occlusion(model.probabilities, pixels, label, blank)
    except InklabError:
        raise
    except Exception as error:  # a user's network may raise anything
        raise ModelMismatchError(
            f"'{model.name}' can't be inspected: {format_error(error)[:300]}; see /api/predict"
        ) from error
    if not layers:
        notes.append("No layers were detected: the network calls no modules.")
    elif filters is None:
        notes.append(f"The weights of the first layer, '{layers[0].name}', are no images.")
    if len(layers) > MAX_LAYERS:
        notes.append(f"The first {MAX_LAYERS} of {len(layers)} layers.")
    if explained is None:
        notes.append(f"No occlusion: the network is too slow to compute it in {OCCLUSION_SECONDS:g} s.")
    return Inspection(tuple(layers[:MAX_LAYERS]), filters, explained, tuple(notes))


# ---------------------------------------------------------------- activations


def layer_activations(net: nn.Module, image: Float[Tensor, "1 c h w"]) -> list[LayerActivations]:
    """What each layer of any network computes for one image.

    A layer is a module without children. Activation, normalization and dropout belong to the layer before
    them; what only reshapes its input is left out, and what returns no tensor of two to four dimensions.

    Example:
        >>> from inklab.networks.classifiers import mlp
        >>> layers = layer_activations(mlp((1, 4, 4), 3, hidden=(5,)), torch.zeros(1, 1, 4, 4))
        >>> [(layer.name, layer.types, layer.output_shape) for layer in layers]
        [('hidden.0', ('Linear', 'ReLU'), (5,)), ('output', ('Linear',), (3,))]
    """
    recorder = _Recorder()
    leaves = [(name, module) for name, module in net.named_modules() if not list(module.children())]
    hooks = [module.register_forward_hook(recorder.hook(name)) for name, module in leaves]
    try:
        with torch.inference_mode():
            net(image)
    finally:
        for hook in hooks:
            hook.remove()
    return recorder.layers


@dataclass
class _Recorder:
    """Records layers while a network runs. Values are copied: a later module may work in place."""

    layers: list[LayerActivations] = field(default_factory=list)

    def hook(self, name: str) -> Callable[..., None]:
        """A forward hook of a module."""

        def record(module: nn.Module, inputs: tuple[object, ...], output: object) -> None:
            if isinstance(output, Tensor) and 2 <= output.dim() <= 4:
                self._record(name, module, inputs[0] if inputs else None, output)

        return record

    def _record(self, name: str, module: nn.Module, source: object, output: Tensor) -> None:
        shape, before = tuple(output.shape[1:]), self.layers[-1] if self.layers else None
        has_weights = next(module.parameters(), None) is not None
        keeps_size = not has_weights and isinstance(source, Tensor) and source.numel() == output.numel()
        continues = before is not None and before.output_shape == shape
        if keeps_size and not continues:  # normalization in front of the network, flattening
            return
        if before is not None and continues and (keeps_size or isinstance(module, NORMS)):
            maps = _largest_maps(output[0])
            is_known = isinstance(module, NORMS + ACTIVATIONS)
            changes = is_known or not np.array_equal(maps.values, before.maps.values)  # dropout does not
            types = (*before.types, type(module).__name__) if changes else before.types
            self.layers[-1] = LayerActivations(before.name, types, shape, maps)
            return
        self.layers.append(LayerActivations(name, (type(module).__name__,), shape, _largest_maps(output[0])))


def _largest_maps(output: Float[Tensor, "..."]) -> FeatureMaps:
    """The maps of one image with the largest mean absolute value, or the units of a dense layer."""
    values = output.float()
    if values.dim() == 2:  # tokens x features, for instance
        values = values[None]
    if values[0].numel() == 1:
        values = values.flatten()[:MAX_UNITS, None, None]
        units = list(range(len(values)))
    else:
        order = values.abs().mean((1, 2)).argsort(descending=True, stable=True)[:MAX_MAPS]
        values, units = values[order], order.tolist()
        block = math.ceil(max(values.shape[1:]) / MAX_MAP_SIDE)
        values = functional.avg_pool2d(values, block, ceil_mode=True)  # a cut block has the mean of its rest
    return FeatureMaps(tuple(units), values[:, None].numpy().copy())


# ---------------------------------------------------------------- filters of the first layer


def first_filters(net: nn.Module, shape: tuple[int, int, int], first: LayerActivations) -> FeatureMaps | None:
    """Weights of the first layer as images, for its units with the largest activations, largest first.

    Args:
        net: any network.
        shape: channels, height and width of its images.
        first: what its first layer computes for an image.

    Returns:
        A convolution's kernels `(n, c, kh, kw)`; of a dense layer on a gray image `(n, 1, h, w)`. None if the
        layer has no such weights, or receives something else than the image.
    """
    layer = net.get_submodule(first.name)
    channels, height, width = shape
    if isinstance(layer, nn.Conv2d) and layer.in_channels == channels and layer.groups == 1:
        weights = layer.weight
    elif isinstance(layer, nn.Linear) and channels == 1 and layer.in_features == math.prod(shape):
        weights = layer.weight.reshape(-1, 1, height, width)
    else:
        return None
    activity = np.abs(first.maps.values).mean(axis=(1, 2, 3))
    order = np.argsort(-activity, kind="stable")[:MAX_MAPS]
    units = [first.maps.units[position] for position in order]
    return FeatureMaps(tuple(units), weights.detach()[units].float().contiguous().numpy().copy())


# ---------------------------------------------------------------- occlusion


def blank_value(preprocessing: Preprocessing) -> float:
    """The value in [0, 1] of pixels without ink; gray where whole pictures are resized.

    Example:
        >>> blank_value(Preprocessing()), blank_value(Preprocessing.resize_only((3, 8, 8)))
        (0.0, 0.5)
    """
    if preprocessing.is_resize_only:
        return 0.5
    return 0.0 if preprocessing.light_on_dark else 1.0


def occlusion(
    probabilities: Callable[[Tensor], Tensor],
    image: Float[Tensor, "1 c h w"],
    label: int,
    blank: float,
    seconds: float = OCCLUSION_SECONDS,
) -> Float32[np.ndarray, "h w"] | None:
    """By how much the probability of a class falls if a square of the image is blank, averaged per pixel.

    Zeiler and Fergus 2014, section 4.2. A square has a seventh of the shorter side and moves by half of its
    own side; each pixel has the mean over all squares that contain it. Negative: the class is more probable
    without this part. A square that is blank already changes nothing and costs no pass.

    Args:
        probabilities: maps images `(b, c, h, w)` to `(b, k)`.
        image: in [0, 1].
        label: the class.
        blank: the value of blank pixels.
        seconds: after which it is given up.

    Returns:
        `(h, w)` values in [-1, 1]; None if it takes too long.
    """
    height, width = image.shape[2:]
    squares = occlusion_squares(height, width)
    changed = [
        (rows, columns) for rows, columns in squares if bool((image[..., rows, columns] != blank).any())
    ]
    deadline = time.monotonic() + seconds
    falls, counts = np.zeros((height, width)), np.zeros((height, width))
    for square in squares:
        counts[square] += 1
    whole = float(probabilities(image)[0, label])
    for start in range(0, len(changed), OCCLUSION_BATCH):
        if time.monotonic() > deadline:
            return None
        batch = changed[start : start + OCCLUSION_BATCH]
        occluded = image.repeat(len(batch), 1, 1, 1)
        for index, square in enumerate(batch):
            occluded[index, :, *square] = blank
        for (rows, columns), probability in zip(
            batch, probabilities(occluded)[:, label].tolist(), strict=True
        ):
            falls[rows, columns] += whole - probability
    return np.asarray(falls / counts, np.float32)


def occlusion_squares(height: int, width: int) -> list[tuple[slice, slice]]:
    """Rows and columns of overlapping squares that cover an image.

    Example:
        >>> len(occlusion_squares(28, 28)), occlusion_squares(28, 28)[1]
        (169, (slice(0, 4, None), slice(2, 6, None)))
    """
    side = min(height, width, max(2, round(min(height, width) / SQUARES_PER_SIDE)))
    rows, columns = (
        [slice(start, start + side) for start in (*range(0, length - side, max(1, side // 2)), length - side)]
        for length in (height, width)
    )
    return list(product(rows, columns))

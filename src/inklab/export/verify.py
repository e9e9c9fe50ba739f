"""Whether a graph computes the same as the network it was made from, and on which inputs."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

import numpy as np
import torch
from jaxtyping import Float32, UInt8
from torch import Tensor

from inklab.errors import ModelMismatchError
from inklab.export.graphs import Exportable
from inklab.export.onnx_file import ParityReport
from inklab.seeding import Seed

REAL_IMAGES = "real images"
MAX_REAL_IMAGES = 40
"""Spread over those at hand."""

N_RANDOM = 7
"""Inputs of each kind that is drawn at random."""

BATCH_SIZES = (1, 2, 7)

TOLERANCE = 5e-5
"""Of probabilities and pixels, absolute. Of logits and codes, which have no bounds, times the largest of that
image's, or times 1 if that is less. Measured over the digits study's networks: 2e-6, 7e-6 and 4e-6."""

UNBOUNDED = ("logits", "codes")

Inputs = dict[str, np.ndarray]
"""Inputs by their kind, `(n, ...)` float32 each."""

Outputs = Mapping[str, np.ndarray]
InferFn = Callable[[np.ndarray], Outputs]


def comparison_inputs(graph: Exportable, images: UInt8[np.ndarray, "n c h w"] | None = None) -> Inputs:
    """Inputs to compare on, some of the real images among them; the same ones every time."""
    inputs = extreme_images(*graph.metadata.shape)
    if images is not None and len(images):
        indices = np.linspace(0, len(images) - 1, min(MAX_REAL_IMAGES, len(images))).round().astype(int)
        inputs = {REAL_IMAGES: images[indices].astype(np.float32) / 255, **inputs}
    if graph.encode is None:
        return inputs
    return _codes(inputs, graph.encode, graph.input_shape[0])


def extreme_images(channels: int, height: int, width: int) -> dict[str, Float32[np.ndarray, "n c h w"]]:
    """Images in [0, 1] that no dataset has.

    Example:
        >>> {kind: len(images) for kind, images in extreme_images(1, 4, 4).items()}
        {'all 0': 1, 'all 1': 1, 'checkerboards': 2, 'single pixels': 10, 'random bytes': 7, \
'salt and pepper': 7, 'values at the edges': 6}
    """
    shape = (channels, height, width)
    rng = (Seed(0) / "extreme images").rng()
    parity = np.indices((height, width)).sum(axis=0) % 2
    board = np.broadcast_to(parity, shape).astype(np.float32)
    random_shape = (N_RANDOM, *shape)
    edges = np.array([1 / 255, 254 / 255, 0.5, np.finfo(np.float32).tiny, 1 - 2**-24], np.float32)
    ramp = np.broadcast_to(np.linspace(0, 1, width, dtype=np.float32), shape)
    return {
        "all 0": np.zeros((1, *shape), np.float32),
        "all 1": np.ones((1, *shape), np.float32),
        "checkerboards": np.stack([board, 1 - board]),
        "single pixels": _single_pixels(shape),
        "random bytes": rng.integers(0, 256, random_shape).astype(np.float32) / 255,
        "salt and pepper": rng.integers(0, 2, random_shape).astype(np.float32),
        "values at the edges": np.stack([*(np.full(shape, value) for value in edges), ramp]),
    }


def _single_pixels(shape: tuple[int, int, int]) -> Float32[np.ndarray, "n c h w"]:
    """One pixel that differs from all others: in the corners and in the middle, light and dark."""
    _, height, width = shape
    corners = [(0, 0), (0, width - 1), (height - 1, 0), (height - 1, width - 1), (height // 2, width // 2)]
    light = np.zeros((len(corners), *shape), np.float32)
    for image, (row, column) in zip(light, corners, strict=True):
        image[:, row, column] = 1
    return np.concatenate([light, 1 - light])


def _codes(images: Inputs, encode: Callable[[Tensor], Tensor], size: int) -> Inputs:
    """Codes of images, and codes that no image has."""
    with torch.inference_mode():
        codes = {
            f"codes of {kind}": encode(torch.from_numpy(batch)).numpy() for kind, batch in images.items()
        }
    largest = np.float32(max(float(np.abs(batch).max()) for batch in codes.values()))
    rng = (Seed(0) / "extreme codes").rng()
    units = np.eye(size, dtype=np.float32)[: 2 * N_RANDOM] * largest
    return {
        **codes,
        "codes of nothing": np.zeros((1, size), np.float32),
        "codes of one unit": units,
        "random codes": rng.uniform(-largest, largest, (N_RANDOM, size)).astype(np.float32),
        "codes far away": rng.uniform(0, 10 * largest, (N_RANDOM, size)).astype(np.float32),
    }


def compare_outputs(
    graph: Exportable, infer: InferFn, images: UInt8[np.ndarray, "n c h w"] | None = None
) -> ParityReport:
    """Compare a converted graph with the original on real and extreme inputs, in batches of 1, 2 and 7.

    Args:
        graph: the original.
        infer: runs the converted graph, such as a `Session`.
        images: real images, if any are at hand.

    Raises:
        ModelMismatchError: an output differs by more than `TOLERANCE`, has another shape or is no number, or
            another class is the most probable one. The message says where and by how much.
    """
    inputs = comparison_inputs(graph, images)
    max_difference: dict[str, float] = {}
    max_relative: dict[str, float] = {}
    with _one_thread():
        for where, batch in _batches(inputs):
            expected, outputs = _reference_outputs(graph, batch), infer(batch)
            _check_shapes(graph, expected, outputs, where)
            for name, values in expected.items():
                difference = np.abs(outputs[name].astype(np.float64) - values)
                relative = difference / _scale(name, values)
                _check_difference(graph, name, difference, relative, where)
                max_difference[name] = max(max_difference.get(name, 0.0), float(difference.max()))
                max_relative[name] = max(max_relative.get(name, 0.0), float(relative.max()))
            if "logits" in expected:
                _check_classes(graph, expected["logits"], outputs["logits"], where)
    return ParityReport(
        images=sum(map(len, inputs.values())),
        real_images=sum(len(batch) for kind, batch in inputs.items() if kind.endswith(REAL_IMAGES)),
        kinds=tuple(inputs),
        batch_sizes=BATCH_SIZES,
        max_difference=_two_digits(max_difference),
        max_relative=_two_digits(max_relative),
        tolerance=TOLERANCE,
    )


def _two_digits(values: Mapping[str, float]) -> dict[str, float]:
    """The other digits depend on the machine and mean nothing."""
    return {name: float(f"{value:.1e}") for name, value in values.items()}


@contextmanager
def _one_thread() -> Iterator[None]:
    """In one thread: the last bits of the original, and so the report, depend on their number."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _batches(inputs: Inputs) -> Iterator[tuple[str, np.ndarray]]:
    """All inputs in batches of exactly each size, and what they are; the last is filled up from the first."""
    for kind, values in inputs.items():
        for size in BATCH_SIZES:
            for start in range(0, len(values), size):
                batch = values[np.arange(start, start + size) % len(values)]
                yield f"on {kind} in batches of {size}", batch


def _reference_outputs(graph: Exportable, batch: np.ndarray) -> dict[str, np.ndarray]:
    with torch.inference_mode():
        return {name: value.numpy() for name, value in graph.reference(torch.from_numpy(batch)).items()}


def _scale(name: str, values: np.ndarray) -> np.ndarray:
    """The unit of a difference: 1, or of an output without bounds the largest of each row if that is more."""
    if name not in UNBOUNDED:
        return np.ones((1,) * values.ndim)
    scale: np.ndarray = np.maximum(np.abs(values).max(axis=1, keepdims=True), 1.0)
    return scale


def _check_shapes(graph: Exportable, expected: Outputs, outputs: Outputs, where: str) -> None:
    needed, computed = (
        {name: value.shape for name, value in arrays.items()} for arrays in (expected, outputs)
    )
    if needed != computed:
        raise _mismatch(graph, f"{where} it returns {computed}, not {needed}")


def _check_difference(
    graph: Exportable, name: str, difference: np.ndarray, relative: np.ndarray, where: str
) -> None:
    if (relative <= TOLERANCE).all():  # NaN is not
        return
    largest = float(difference.max())
    problem = "are no numbers" if np.isnan(largest) else f"differ by up to {largest:.2g}"
    unit = " times the largest" if name in UNBOUNDED else ""
    raise _mismatch(graph, f"{where} its {name} {problem}; allowed: {TOLERANCE:g}{unit}", name)


def _check_classes(graph: Exportable, expected: np.ndarray, logits: np.ndarray, where: str) -> None:
    """Refuse another most probable class, unless the two are as good as equal."""
    gap = expected.max(axis=1) - expected[np.arange(len(expected)), logits.argmax(axis=1)]
    if (gap > TOLERANCE * _scale("logits", expected)[:, 0]).any():
        problem = f"{where} it predicts another class, {float(gap.max()):.2g} apart in the logits"
        raise _mismatch(graph, problem, "logits")


def _mismatch(graph: Exportable, problem: str, output: str = "") -> ModelMismatchError:
    return ModelMismatchError(
        f"the exported '{graph.name}' does not compute the same: {problem}; nothing was written", key=output
    )

"""The arrays that a run stores beside its outcomes: which belong together, their types and shapes."""

from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np

from inklab.errors import CorruptFileError
from inklab.io.tensor_file import read_arrays
from inklab.records.plan import REAL_DATA, GenerationEvaluation, Plan, RobustnessEvaluation

Arrays = dict[str, np.ndarray]
Sizes = Mapping[str, int]

MAX_DESCRIBED = 6
"""Arrays of an unexpected file that a message names."""

UINT8, INTEGER, FLOAT = "uint8", "iu", "f"


class ArraySpec(NamedTuple):
    """What an array must be: "uint8" or NumPy's letters for kinds of types, and the sides of its shape.

    A letter stands for one number within a file.
    """

    dtype: str
    sides: str


IMAGES = ArraySpec(UINT8, "n c h w")
LABELS = ArraySpec(INTEGER, "n")

ARRAY_SPECS: dict[str, dict[str, ArraySpec]] = {
    "predictions": {"predicted": LABELS, "confidence": ArraySpec(FLOAT, "n")},
    "examples": {"clean": IMAGES, "inputs": IMAGES, "outputs": IMAGES},
    "samples": {"pixels": IMAGES, "labels": LABELS},
    "robustness": {
        "predicted": ArraySpec(INTEGER, "s n"), "labels": LABELS, "indices": LABELS,
        "corrupted": ArraySpec(UINT8, "s m c h w"), "denoised": ArraySpec(UINT8, "s m c h w"),
    },
    "generation": {
        "images": IMAGES, "neighbors": ArraySpec(UINT8, "m c h w"),
        "predicted": LABELS, "confidence": ArraySpec(FLOAT, "n"),
    },
    REAL_DATA: {"images": IMAGES, "reconstructions": IMAGES},
}  # fmt: skip
"""What is stored together. The first three are named as their files are; the others lie in an evaluation's
`arrays.safetensors`."""


class StoredArrays:
    """The arrays of a run directory's trials and evaluations, each checked against the plan.

    Every method raises `CorruptFileError` if they are damaged, or not what is stored there.
    """

    def __init__(self, path: Path, plan: Plan) -> None:
        self._path = path
        self._evaluations = plan.evaluations
        self._sizes = {**dict(zip("chw", plan.data.shape, strict=True)), "k": plan.data.n_classes}

    def __call__(self, id: str) -> Arrays:
        """The arrays of an evaluation or a trial; empty if there are none."""
        if id in self._evaluations:
            return self._read_evaluation(self._evaluations[id])
        predictions = self._read(f"trials/{id}/predictions", "predictions", self._sizes)
        return predictions | self._read(f"trials/{id}/examples", "examples", self._sizes)

    def finished(self, evaluation: str) -> Arrays:
        """The arrays of an evaluation that is done, which must be there."""
        arrays = self(evaluation)
        if not arrays:
            directory = self._path / "evaluations" / evaluation
            raise CorruptFileError(
                f"'{directory}' has lost its arrays; delete it and run the command of the run again"
            )
        return arrays

    def samples(self) -> Arrays:
        """Some training images of each class; empty if there are none."""
        return self._read("samples", "samples", self._sizes)

    def _read_evaluation(self, evaluation: RobustnessEvaluation | GenerationEvaluation) -> Arrays:
        name = f"evaluations/{evaluation.id}/arrays"
        if isinstance(evaluation, RobustnessEvaluation):
            sizes = {**self._sizes, "s": len(evaluation.strengths), "n": evaluation.images}
            return self._read(name, "robustness", sizes)
        return self._read(name, REAL_DATA if evaluation.sampler == REAL_DATA else "generation", self._sizes)

    def _read(self, name: str, kind: str, sizes: Sizes) -> Arrays:
        path = self._path / f"{name}.safetensors"
        try:
            return check_arrays(read_arrays(path), path, kind, sizes)
        except (FileNotFoundError, NotADirectoryError):
            return {}


def check_arrays(arrays: Arrays, path: Path, kind: str, sizes: Sizes | None = None) -> Arrays:
    """Arrays as they were read, if they are what a run stores there.

    Args:
        arrays: all arrays of a file.
        path: where they were read, for messages.
        kind: one of `ARRAY_SPECS`.
        sizes: what the letters of some sides must be, and the number of classes as "k".

    Raises:
        CorruptFileError: there are others, or a type, a shape, a label or a confidence is impossible.

    Example:
        >>> arrays = {"predicted": np.zeros(3, np.int16), "confidence": np.ones(3, np.float32)}
        >>> sorted(check_arrays(arrays, Path("predictions.safetensors"), "predictions", {"n": 3}))
        ['confidence', 'predicted']
    """
    specs, known = ARRAY_SPECS[kind], dict(sizes or {})
    if specs.keys() != arrays.keys() or not all(_fits(arrays[name], specs[name], known) for name in specs):
        described = [f"{name[:20]} {array.dtype}{array.shape}" for name, array in sorted(arrays.items())]
        raise CorruptFileError(
            f"'{path}' holds {', '.join(described[:MAX_DESCRIBED]) or 'nothing'}, which is not what a run "
            "stores there; restore it from a copy"
        )
    if not all(_is_in_range(name, array, known) for name, array in arrays.items()):
        raise CorruptFileError(f"'{path}' has impossible labels or confidences; restore it from a copy")
    return arrays


def _fits(array: np.ndarray, spec: ArraySpec, known: dict[str, int]) -> bool:
    """Whether an array has its type and its sides; a side that is new becomes known."""
    sides = spec.sides.split()
    has_type = array.dtype == np.uint8 if spec.dtype == UINT8 else array.dtype.kind in spec.dtype
    if not has_type or array.ndim != len(sides) or 0 in array.shape:
        return False
    return all(known.setdefault(side, n) == n for side, n in zip(sides, array.shape, strict=True))


def _is_in_range(name: str, array: np.ndarray, known: Sizes) -> bool:
    """Whether labels, which are looked up, and confidences, which are sorted by, are possible."""
    if name in ("predicted", "labels"):
        return 0 <= int(array.min()) <= int(array.max()) < known.get("k", 2**53)
    return name != "confidence" or bool(((array >= 0) & (array <= 1)).all())

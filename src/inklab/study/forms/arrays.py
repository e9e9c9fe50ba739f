"""The arrays that a run stores beside its outcomes: which belong together, their types and shapes."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from inklab.errors import CorruptFileError
from inklab.evaluation.samplers import REAL_DATA_BASELINE
from inklab.io.tensor_file import read_arrays

Arrays = dict[str, np.ndarray]
Sizes = Mapping[str, int]

BYTES, WHOLE, FLOATS = "uint8", "iu", "f"
FORMS: dict[str, dict[str, tuple[str, str]]] = {
    "predictions": {"predicted": (WHOLE, "n"), "confidence": (FLOATS, "n")},
    "examples": {name: (BYTES, "n c h w") for name in ("clean", "shown", "output")},
    "samples": {"pixels": (BYTES, "n c h w"), "labels": (WHOLE, "n")},
    "noise": {
        "predicted": (WHOLE, "s n"), "labels": (WHOLE, "n"), "indices": (WHOLE, "n"),
        "shown": (BYTES, "s m c h w"), "seen": (BYTES, "s m c h w"),
    },
    "generator": {
        "images": (BYTES, "n c h w"), "nearest": (BYTES, "m c h w"),
        "predicted": (WHOLE, "n"), "confidence": (FLOATS, "n"),
    },
    REAL_DATA_BASELINE: {"images": (BYTES, "n c h w"), "reconstructions": (BYTES, "n c h w")},
}  # fmt: skip
"""What is stored together, each with its type and sides; a letter is one number within a file.

The first three are named as their files are; the others lie in an evaluation's `arrays.safetensors`.
"""


class _Wanted(NamedTuple):
    form: str
    sizes: Sizes


class StoredArrays:
    """The arrays of a run's trials and evaluations, each checked against what the plan says of it.

    Args:
        folder: the run's.
        plan: its plan, of sound form.
    """

    def __init__(self, folder: Path, plan: Mapping[str, Any]) -> None:
        self._folder = folder
        data = plan["data"]
        self._sizes = {**dict(zip("chw", data["shape"], strict=True)), "k": len(data["labels"])}
        self._wanted: dict[str, _Wanted] = {}
        for chapter in plan["chapters"]:
            for each in chapter.get("evaluations", []):
                self._wanted[each["id"]] = self._of(chapter, each)

    def _of(self, chapter: Mapping[str, Any], evaluation: Mapping[str, Any]) -> _Wanted:
        if chapter["kind"] == "noise":
            measured = {"s": len(chapter["strengths"]), "n": chapter["images"]}
            return _Wanted("noise", {**self._sizes, **measured})
        return _Wanted(
            REAL_DATA_BASELINE if evaluation["sampler"] == REAL_DATA_BASELINE else "generator", self._sizes
        )

    def __call__(self, name: str) -> Arrays:
        """The arrays of an evaluation or a trial by id; empty if there are none.

        Raises:
            CorruptFileError: they are damaged, or not what is stored there.
        """
        wanted = self._wanted.get(name)
        if wanted is not None:
            return self._read(f"evaluations/{name}/arrays", *wanted)
        said = self._read(f"trials/{name}/predictions", "predictions", self._sizes)
        return said | self._read(f"trials/{name}/examples", "examples", self._sizes)

    def finished(self, evaluation: str) -> Arrays:
        """The arrays of an evaluation that is done, by id.

        Raises:
            CorruptFileError: they are missing, damaged, or not what is stored there.
        """
        found = self(evaluation)
        if not found:
            folder = self._folder / "evaluations" / evaluation
            raise CorruptFileError(
                f"'{folder}' has lost its arrays; delete it and type the run's command again"
            )
        return found

    def samples(self) -> Arrays:
        """Some training images of each class, as `save_samples` wrote them; empty if there are none.

        Raises:
            CorruptFileError: they are damaged, or not what is stored there.
        """
        return self._read("samples", "samples", self._sizes)

    def _read(self, place: str, form: str, sizes: Sizes) -> Arrays:
        path = self._folder / f"{place}.safetensors"
        try:
            return check_arrays(read_arrays(path), path, form, sizes)
        except (FileNotFoundError, NotADirectoryError):
            return {}


def check_arrays(arrays: Arrays, path: Path, form: str, sizes: Sizes | None = None) -> Arrays:
    """Arrays as they were read, if they are what a run stores there.

    Args:
        arrays: all arrays of a file.
        path: where they were read, for messages.
        form: one of `FORMS`.
        sizes: what the letters of some sides must be, and the number of classes as "k".

    Raises:
        CorruptFileError: others are there, or a type, a shape, a class number or a confidence is impossible.

    Example:
        >>> said = {"predicted": np.zeros(3, np.int16), "confidence": np.ones(3, np.float32)}
        >>> sorted(check_arrays(said, Path("predictions.safetensors"), "predictions", {"n": 3}))
        ['confidence', 'predicted']
    """
    wanted, known = FORMS[form], dict(sizes or {})
    fits = wanted.keys() == arrays.keys()
    if not fits or not all(_fits(arrays[name], *wanted[name], known) for name in wanted):
        told = [f"{name[:20]} {each.dtype}{each.shape}" for name, each in sorted(arrays.items())[:6]]
        raise CorruptFileError(
            f"'{path}' holds {', '.join(told) or 'nothing'}, not what a run stores there; restore it from a "
            "copy"
        )
    if not all(_sound(name, array, known) for name, array in arrays.items()):
        raise CorruptFileError(
            f"'{path}' has class numbers or confidences that are none; restore it from a copy"
        )
    return arrays


def _fits(array: np.ndarray, kind: str, sides: str, known: dict[str, int]) -> bool:
    """Whether an array has its type and its sides; those seen for the first time become known."""
    letters = sides.split()
    right = array.dtype == np.uint8 if kind == BYTES else array.dtype.kind in kind
    if not right or array.ndim != len(letters) or 0 in array.shape:
        return False
    return all(known.setdefault(letter, n) == n for letter, n in zip(letters, array.shape, strict=True))


def _sound(name: str, array: np.ndarray, known: Sizes) -> bool:
    """Whether class numbers and confidences, which are looked up and sorted by, can be some."""
    if name in ("predicted", "labels"):
        return 0 <= int(array.min()) <= int(array.max()) < known.get("k", 2**53)
    return name != "confidence" or bool(((array >= 0) & (array <= 1)).all())

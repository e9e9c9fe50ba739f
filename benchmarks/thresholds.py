"""What is claimed about whom, and the bars."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Claim:
    """A ratio of throughputs: ours by theirs.

    Attributes:
        name: work and peer, such as "cnn/torch".
        work: whose measurements it comes from.
        against: the peer; of several the one that was faster in the same run.
        bar, stretch: what the ratio should reach, and what would be better still.
        about: one phrase for the page.
    """

    name: str
    work: str
    against: tuple[str, ...]
    bar: float
    stretch: float | None
    about: str


KERAS_TENSORFLOW = "`fit` of Keras on TensorFlow"

CLAIMS = (
    Claim("l2-sweep/keras-tensorflow", "l2-sweep", ("keras-tensorflow",), 3.2, 4.0, KERAS_TENSORFLOW),
    Claim("l2-sweep/keras-jax", "l2-sweep", ("keras-jax",), 1.7, 2.2, "`fit` of Keras on JAX"),
    Claim("l2-sweep/torch", "l2-sweep", ("torch",), 3.0, None, "a plain PyTorch loop"),
    Claim("l2-sweep/sklearn", "l2-sweep", ("sklearn",), 5.0, None, "scikit-learn's MLPClassifier"),
    Claim("l2-sweep/limit", "l2-sweep", ("limit",), 0.65, 0.85, "its matmuls alone: a share of the limit"),
    Claim("cnn/keras-tensorflow", "cnn", ("keras-tensorflow",), 2.0, 2.6, KERAS_TENSORFLOW),
    Claim("cnn/keras-torch", "cnn", ("keras-torch",), 4.0, 5.0, "`fit` of Keras on torch"),
    Claim("cnn/torch", "cnn", ("torch",), 2.5, 3.3, "a plain PyTorch loop"),
    Claim(
        "denoiser/keras", "denoiser", ("keras-tensorflow", "keras-jax"), 1.5, 3.0,
        "`fit` of Keras on TensorFlow or on JAX, whichever is faster",
    ),
)  # fmt: skip

ROWS = {
    "l2-sweep": (
        "keras-tensorflow",
        "ours",
        "keras-jax",
        "torch",
        "ours",
        "sklearn",
        "limit",
        "ours",
        "ours-fp32",
    ),
    "cnn": ("keras-tensorflow", "ours", "keras-torch", "torch", "ours", "ours-fp32"),
    "denoiser": ("keras-tensorflow", "ours", "keras-jax", "ours-fp32"),
}
"""A round of each work: who is measured, in which order. Every peer stands beside one of ours, its pair."""


def pairs_of(row: tuple[str, ...]) -> dict[str, int]:
    """Whom each peer is compared with: the place of the measurement of ours that stands next to it.

    Example:
        >>> pairs_of(("a", "ours", "b", "c", "ours"))
        {'a': 1, 'b': 1, 'c': 4}
    """
    return {
        name: next(
            beside for beside in (place - 1, place + 1) if 0 <= beside < len(row) and row[beside] == "ours"
        )
        for place, name in enumerate(row)
        if not name.startswith("ours")
    }

"""What is claimed about speed, compared with which peer, and the targets."""

from dataclasses import dataclass


@dataclass(frozen=True)
class SpeedClaim:
    """A ratio of throughputs: inklab's divided by a peer's.

    Attributes:
        name: workload and peer, such as "cnn/torch".
        workload: whose measurements it comes from.
        peers: that it is about; of several, the one that was faster in the same measurement counts.
        target: what the ratio should reach.
        stretch: a more ambitious target.
        description: of the peer, for the page.
    """

    name: str
    workload: str
    peers: tuple[str, ...]
    target: float
    stretch: float | None
    description: str


KERAS_TENSORFLOW = "`fit` of Keras on TensorFlow"

SPEED_CLAIMS = (
    SpeedClaim("l2-sweep/keras-tensorflow", "l2-sweep", ("keras-tensorflow",), 3.2, 4.0, KERAS_TENSORFLOW),
    SpeedClaim("l2-sweep/keras-jax", "l2-sweep", ("keras-jax",), 1.7, 2.2, "`fit` of Keras on JAX"),
    SpeedClaim("l2-sweep/torch", "l2-sweep", ("torch",), 3.0, None, "a plain PyTorch loop"),
    SpeedClaim("l2-sweep/sklearn", "l2-sweep", ("sklearn",), 5.0, None, "scikit-learn's MLPClassifier"),
    SpeedClaim("l2-sweep/limit", "l2-sweep", ("limit",), 0.65, 0.85, "its matmuls alone: share of the limit"),
    SpeedClaim("cnn/keras-tensorflow", "cnn", ("keras-tensorflow",), 2.0, 2.6, KERAS_TENSORFLOW),
    SpeedClaim("cnn/keras-torch", "cnn", ("keras-torch",), 4.0, 5.0, "`fit` of Keras on torch"),
    SpeedClaim("cnn/torch", "cnn", ("torch",), 2.5, 3.3, "a plain PyTorch loop"),
    SpeedClaim(
        "denoiser/keras", "denoiser", ("keras-tensorflow", "keras-jax"), 1.5, 3.0,
        "`fit` of Keras on TensorFlow or on JAX, whichever is faster",
    ),
)  # fmt: skip

INKLAB, INKLAB_FP32 = "inklab", "inklab-fp32"

ROUNDS = {
    "l2-sweep": (
        "keras-tensorflow", INKLAB, "keras-jax", "torch", INKLAB, "sklearn", "limit", INKLAB, INKLAB_FP32,
    ),
    "cnn": ("keras-tensorflow", INKLAB, "keras-torch", "torch", INKLAB, INKLAB_FP32),
    "denoiser": ("keras-tensorflow", INKLAB, "keras-jax", INKLAB_FP32),
}  # fmt: skip
"""The order in which a round measures programs. Every peer is next to a unit of inklab: its pair."""


def pair_positions(order: tuple[str, ...]) -> dict[str, int]:
    """For each peer of a round, the position of the neighboring unit of inklab.

    Example:
        >>> pair_positions(("a", "inklab", "b", "c", "inklab"))
        {'a': 1, 'b': 1, 'c': 4}
    """
    return {
        name: next(
            neighbor
            for neighbor in (position - 1, position + 1)
            if 0 <= neighbor < len(order) and order[neighbor] == INKLAB
        )
        for position, name in enumerate(order)
        if name not in (INKLAB, INKLAB_FP32)
    }

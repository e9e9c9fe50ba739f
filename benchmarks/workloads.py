"""What is measured: the study's works as plain data, the same for inklab and for every peer.

Read by processes of both environments, so it imports nothing but the standard library.
"""

from dataclasses import asdict, dataclass, replace
from typing import Any

EPOCH = 60_000
"""Images of a member-epoch: all of MNIST's training images, none held out."""
L2_VALUES = (1e-6, 5e-6, 1e-5, 1e-4, 1e-3)
"""The study's sweep; a peer, which trains one network at a time, gets the middle one. All cost the same."""
DROPOUT = 0.5
HIDDEN = (500, 300)
CHANNELS = (32, 64)
POOL = 3
CNN_HIDDEN = 300
CODE = (128, 96)
ADAM_EPSILON = 1e-7  # Keras's default, and inklab's; torch's is 1e-8
NOISE = 0.4
NOISE_SEED = 0


@dataclass(frozen=True)
class Work:
    """One kind of training.

    Attributes:
        name: as in the claims.
        network: "mlp" (784-500-300-10), "cnn" or "autoencoder" (784-128-96-128-784).
        batch: images a step.
        optimiser: "sgd" without momentum, or "adam" (Kingma and Ba's decays, epsilon 1e-7).
        rate: learning rate, constant.
        l2: of a peer's network; `l2 * sum(w ** 2)` on the two hidden kernels.
        images: how many of the 60,000 a network sees in one measured unit.
        members: that each of inklab's workers trains in a measured unit.
        together: of these, in one population, as the planner would have it; one after the other otherwise.
    """

    name: str
    network: str
    batch: int
    optimiser: str
    rate: float
    l2: float
    images: int
    members: int
    together: int

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)


WORKS = {
    work.name: work
    for work in (
        Work("l2-sweep", "mlp", 128, "sgd", 0.1, 1e-5, images=EPOCH, members=8, together=2),
        # 75 steps. The whole epoch would take a minute a measurement and tell no more.
        Work("cnn", "cnn", 128, "sgd", 0.1, 0.0, images=9_600, members=1, together=1),
        Work("denoiser", "autoencoder", 64, "adam", 1e-3, 0.0, images=EPOCH, members=6, together=3),
    )
}


def smaller(work: Work, images: int | None, members: int | None) -> Work:
    """The same work over fewer images or members, to try things out."""
    members = members or work.members
    return replace(work, images=images or work.images, members=members, together=min(work.together, members))


def warm_up_images(work: Work) -> int:
    """Images that show a program every batch shape it will meet: two full batches and the odd last one."""
    return min(2 * work.batch + work.images % work.batch, EPOCH)


@dataclass(frozen=True)
class Case:
    """A network of the study whose first losses are held against Keras's.

    Attributes:
        work: what is trained, and how.
        hidden: units of a dense network's hidden layers.
        chaotic: losses that differ in the seventh digit differ in the second some steps later, in any two
            programs; shown beside Keras against Keras, and not held against the tolerance.
    """

    work: Work
    hidden: tuple[int, ...] = HIDDEN
    chaotic: bool = False


PARITY_STEPS = 50
PARITY_L2 = 1e-3  # the sweep's strongest, so that it shows
PARITY = {
    "mlp-64-64": Case(replace(WORKS["l2-sweep"], l2=0.0), hidden=(64, 64)),
    "mlp-500-300": Case(replace(WORKS["l2-sweep"], l2=0.0)),
    "l2-sweep": Case(replace(WORKS["l2-sweep"], l2=PARITY_L2)),
    # At the study's rate, 0.1, the cnn's first losses leap about: weights moved by 1e-6 of themselves change
    # the 20th loss by 5 %. So it is held against Keras at a tenth of it, and shown at its own.
    "cnn": Case(replace(WORKS["cnn"], rate=0.01)),
    "cnn-at-0.1": Case(WORKS["cnn"], chaotic=True),
    "denoiser": Case(WORKS["denoiser"]),
}
"""All without dropout: two libraries draw different masks."""

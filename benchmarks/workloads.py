"""What is measured: the study's workloads as plain data, the same for inklab and for every peer.

Processes of both environments read this module, so it imports the standard library only.
"""

from dataclasses import dataclass, replace
from typing import Literal

EPOCH_IMAGES = 60_000
"""Images of a member-epoch: all of MNIST's training images, without a validation split."""
L2_VALUES = (1e-6, 5e-6, 1e-5, 1e-4, 1e-3)
"""The study's sweep. A peer trains one network at a time and gets the middle one; all cost the same."""
DROPOUT = 0.5
HIDDEN = (500, 300)
CHANNELS = (32, 64)
POOL = 3
CNN_HIDDEN = 300
CODE = (128, 96)
ADAM_EPSILON = 1e-7  # Keras's default, and inklab's; torch's is 1e-8
NOISE_STRENGTH = 0.4
NOISE_SEED = 0

NetworkKind = Literal["mlp", "cnn", "autoencoder"]


@dataclass(frozen=True)
class Workload:
    """One kind of training.

    Attributes:
        name: as in the claims.
        network: "mlp" (784-500-300-10), "cnn" or "autoencoder" (784-128-96-128-784).
        batch_size: images a step.
        optimizer: "sgd" without momentum, or "adam" (Kingma and Ba's decays, epsilon 1e-7).
        learning_rate: constant.
        l2: of a peer's network; `l2 * sum(w ** 2)` on the two hidden kernels.
        images: how many of the 60,000 a network sees in one measured unit.
        members: networks that each of inklab's workers trains in a measured unit.
        population: members that are trained together, as the planner would group them; the populations of a
            worker are trained one after the other.
    """

    name: str
    network: NetworkKind
    batch_size: int
    optimizer: Literal["sgd", "adam"]
    learning_rate: float
    l2: float
    images: int
    members: int
    population: int

    @property
    def denoises(self) -> bool:
        """Whether the targets are images."""
        return self.network == "autoencoder"

    @property
    def warm_up_images(self) -> int:
        """Images that show a program every batch shape: two full batches and the smaller last one."""
        return min(2 * self.batch_size + self.images % self.batch_size, EPOCH_IMAGES)

    def reduced(self, images: int | None, members: int | None = None) -> "Workload":
        """The same workload over fewer images or members, for a trial run."""
        members = members or self.members
        population = min(self.population, members)
        return replace(self, images=images or self.images, members=members, population=population)


WORKLOADS = {
    workload.name: workload
    for workload in (
        Workload("l2-sweep", "mlp", 128, "sgd", 0.1, 1e-5, EPOCH_IMAGES, members=8, population=2),
        # 75 steps. A whole epoch would take a minute per measurement and give the same ratios.
        Workload("cnn", "cnn", 128, "sgd", 0.1, 0.0, images=9_600, members=1, population=1),
        Workload("denoiser", "autoencoder", 64, "adam", 1e-3, 0.0, EPOCH_IMAGES, members=6, population=3),
    )
}


@dataclass(frozen=True)
class ParityCase:
    """A network of the study whose first losses are compared with Keras's.

    Attributes:
        workload: what is trained, and with which recipe.
        hidden: units of a dense network's hidden layers.
        chaotic: a difference in the seventh digit of a loss becomes one in the second digit some steps later,
            in any two programs. Such a case is reported beside Keras against Keras, without the tolerance.
    """

    workload: Workload
    hidden: tuple[int, ...] = HIDDEN
    chaotic: bool = False


PARITY_STEPS = 50
PARITY_L2 = 1e-3  # the sweep's strongest, so that its effect is visible
PARITY_CASES = {
    "mlp-64-64": ParityCase(replace(WORKLOADS["l2-sweep"], l2=0.0), hidden=(64, 64)),
    "mlp-500-300": ParityCase(replace(WORKLOADS["l2-sweep"], l2=0.0)),
    "l2-sweep": ParityCase(replace(WORKLOADS["l2-sweep"], l2=PARITY_L2)),
    # At the study's learning rate, 0.1, the cnn's first losses are chaotic: moving weights by 1e-6 of
    # themselves changes the 20th loss by 5%. So it is compared at a tenth of that rate.
    "cnn": ParityCase(replace(WORKLOADS["cnn"], learning_rate=0.01)),
    "cnn-at-0.1": ParityCase(WORKLOADS["cnn"], chaotic=True),
    "denoiser": ParityCase(WORKLOADS["denoiser"]),
}
"""All without dropout: two libraries draw different masks."""

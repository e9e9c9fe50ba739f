"""A device is trusted by a check on this very machine: a short training there, compared with the processor.

GPUs, drivers and libraries differ, and some train wrong without an error. So before networks of one kind are
trained on a device, three things are measured there, with the network, recipe and precision of the study:

    losses       those of a short training, against the same training on the processor
    members      the losses of a population's members, against the same trials trained alone
    repetition   the same training again: it must give the same bits

What fails is trained on the processor, with one line that says why. The result is kept in the user's cache,
by machine, torch and kind of network, and stands in the plan of each run.
"""

from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import torch

from inklab.errors import CorruptFileError, format_error
from inklab.hardware import cpu_name
from inklab.io.files import cache_dir, fingerprint
from inklab.records.execution import CPU, DeviceCheck, DeviceChoice, NetworkTraits
from inklab.records.plan import Trial
from inklab.records.recipe import Precision, TrialConfig
from inklab.records.record import Shape
from inklab.seeding import Seed
from inklab.training.batches import TensorSet, TrainingData
from inklab.training.population import MIN_POPULATION, PopulationSpec
from inklab.training.preflight import preflight
from inklab.training.trainer import TrainingResult, train_population

CHECK_VERSION = 1  # raised when the check measures something else

STEPS = 12
N_IMAGES = 64  # of a batch at most; a step of 64 images shows the same faults as one of 500
N_VALIDATION = 16

RATE_SHARE = 0.1
"""Of the recipe's learning rate. At the full rate the first losses of some networks are chaotic: two correct
programs differ in the second digit after 20 steps (docs/benchmarks.md, parity)."""

TOLERANCE: dict[Precision, float] = {"fp32": 1e-3, "bf16": 3e-2}
"""Relative, of each of the losses. A wrong kernel is off by far more; sums in another order by about 1e-6 in
fp32 and 4e-3 in bf16, the unit of its rounding."""

MAX_MEMBERS = 32
"""Trials in one population on a GPU, where it is mostly idle with one small network."""

MEMBERS_BYTES = 2 << 30  # of weights, gradients and optimizer state of a population
PARAMETER_BYTES = 20  # fp32 weight, gradient, two moments, average

MAX_ERROR = 1.0
"""The error of a training that diverged where the other did not."""

TrainFn = Callable[[PopulationSpec, TrainingData], Sequence[TrainingResult]]
"""Trains a population on the device that its specification names: `train_population`."""


@dataclass(frozen=True)
class NetworkKind:
    """What is checked: one kind of network.

    Attributes:
        key: identifies network, objective, precision and the user's code.
        config: of one such training; its recipe is used with a tenth of the learning rate.
        traits: what the preflight check says of it.
        shape: of images: channels, height, width.
        n_classes: number of classes.
        max_members: of a population.
    """

    key: str
    config: TrialConfig
    traits: NetworkTraits
    shape: Shape
    n_classes: int
    max_members: int = MAX_MEMBERS

    @property
    def stacked(self) -> bool:
        """Whether trials are trained as members of populations."""
        return self.traits.vmappable and not self.traits.has_convolutions

    @property
    def members(self) -> int:
        """Trials in a full population."""
        return min(device_population(self.traits.parameters), self.max_members)


def check_device(
    network: NetworkKind,
    device: DeviceChoice,
    *,
    compiled: bool = False,
    train: TrainFn = train_population,
) -> DeviceCheck:
    """Train a kind of network on a device for a few steps, and compare.

    Args:
        network: that is checked.
        device: that it is checked on.
        compiled: whether compiling is tried, too.
        train: trains on the device; the reference is always `train_population` on the processor.

    Returns:
        What was measured. `problem` says why the device is not used; what raises an error there is one, too.
    """
    tolerance = TOLERANCE[network.config.precision]
    check = DeviceCheck(
        device=device.name, hardware=device.hardware, torch=str(torch.__version__), steps=STEPS,
        tolerance=tolerance,
    )  # fmt: skip
    if network.traits.uses_global_rng:
        problem = "it draws from torch's global generator, which gives other numbers on each device"
        return check.model_copy(update={"problem": problem})
    try:
        return _compare(check, _ShortTrainings(network, device.name, train), compiled=compiled)
    except Exception as error:  # drivers, libraries and users' modules raise all kinds
        return check.model_copy(update={"problem": f"it fails on {device.name}: {format_error(error)[:300]}"})


class _ShortTrainings:
    """Short trainings of one kind of network, on the processor and on a device."""

    def __init__(self, network: NetworkKind, device: str, train: TrainFn) -> None:
        recipe = network.config.recipe
        self.n_images = min(recipe.batch_size, N_IMAGES)
        short = recipe.model_copy(
            update={
                "epochs": STEPS,  # of one batch each, so that a learning curve has the loss of every step
                "batch_size": self.n_images,
                "learning_rate": recipe.learning_rate * RATE_SHARE,
                "early_stopping": None,
            }
        )
        self.config = network.config.model_copy(update={"recipe": short})
        self.network, self.device, self.train = network, device, train
        self.data = _random_images(network.shape, network.n_classes, self.n_images)

    def on_cpu(self, replicate: int) -> list[float]:
        """The loss of each step of a trial that is trained alone on the processor."""
        [result] = train_population(self._spec([replicate], CPU), self.data)
        return _losses(result)

    def on_device(self, replicates: Sequence[int], *, compiled: bool = False) -> "_Trained":
        """The same of some trials that are trained together on the device."""
        results = self.train(self._spec(replicates, self.device, compiled=compiled), self.data)
        return _Trained([_losses(result) for result in results], results[0].compile_error)

    def _spec(self, replicates: Sequence[int], device: str, *, compiled: bool = False) -> PopulationSpec:
        trials = [Trial(f"check-{replicate}", self.config, replicate) for replicate in replicates]
        return PopulationSpec(
            trials, self.network.stacked, reseed_each_step=False, seed=0, compiled=compiled, device=device
        )


class _Trained(NamedTuple):
    """Losses of each trial and step, and why the step could not be compiled."""

    losses: list[list[float]]
    compile_error: str | None


def _compare(check: DeviceCheck, trainings: _ShortTrainings, *, compiled: bool) -> DeviceCheck:
    """Measure one thing after the other, until something is beyond its tolerance."""
    device = check.device
    expected, single = trainings.on_cpu(0), trainings.on_device([0])
    error = relative_error(expected, single.losses[0])
    problem = _beyond(error, check.tolerance, f"its losses on {device} differ from the CPU's")
    check = check.model_copy(update={"loss_error": error, "problem": problem})
    if check.passed:
        error = relative_error(single.losses[0], trainings.on_device([0]).losses[0])
        problem = _beyond(error, 0.0, f"a second training on {device} differs from the first")
        check = check.model_copy(update={"repeat_error": error, "problem": problem})
    if check.passed and trainings.network.stacked:
        check = _compare_members(check, trainings, single)
    if check.passed and compiled:
        check = _compare_compiled(check, trainings, single)
    return check


def _compare_members(check: DeviceCheck, trainings: _ShortTrainings, first: _Trained) -> DeviceCheck:
    """The first and the last member of a full population against the same trials alone."""
    members = trainings.network.members
    together, last = trainings.on_device(range(members)), trainings.on_device([members - 1])
    pairs = ((first.losses[0], together.losses[0]), (last.losses[0], together.losses[-1]))
    error = max(relative_error(*pair) for pair in pairs)
    clause = f"members of a population on {check.device} differ from the same trials alone"
    problem = _beyond(error, check.tolerance, clause)
    return check.model_copy(update={"members": members, "member_error": error, "problem": problem})


def _compare_compiled(check: DeviceCheck, trainings: _ShortTrainings, eager: _Trained) -> DeviceCheck:
    """The compiled step against the same step uncompiled; a failure costs only the compiling."""
    trained = trainings.on_device([0], compiled=True)
    error = relative_error(eager.losses[0], trained.losses[0])
    problem = trained.compile_error or _beyond(
        error, check.tolerance, "its losses differ from uncompiled ones"
    )
    return check.model_copy(update={"compiles": not problem, "compile_problem": problem})


def device_population(parameters: int) -> int:
    """How many members of a network a population on a GPU has: as many as 2 GiB hold, 2 to 32.

    Example:
        >>> device_population(545_810), device_population(20_000_000)
        (32, 5)
    """
    return min(max(MEMBERS_BYTES // (max(parameters, 1) * PARAMETER_BYTES), MIN_POPULATION), MAX_MEMBERS)


def relative_error(expected: Sequence[float], actual: Sequence[float]) -> float:
    """The largest relative difference of two series; 1 if one ended early.

    Example:
        >>> relative_error([1.0, 2.0], [1.0, 1.0]), relative_error([1.0], [])
        (0.5, 1.0)
    """
    if len(expected) != len(actual):
        return MAX_ERROR
    pairs = zip(expected, actual, strict=True)
    return max((abs(a - b) / max(abs(a), abs(b)) for a, b in pairs if a != b), default=0.0)


def _beyond(error: float | None, tolerance: float, clause: str) -> str:
    """A clause that says so, if an error is beyond a tolerance; "" if not."""
    if error is None or error <= tolerance:
        return ""
    return f"{clause} by {error:.1g}, relatively; allowed: {tolerance:g}"


def _losses(result: TrainingResult) -> list[float]:
    return list(result.history.values("train_loss"))


def _random_images(shape: Shape, n_classes: int, count: int) -> TrainingData:
    """Random images and classes: a fault of a device needs no digits to show."""

    def draw(name: str, n: int) -> TensorSet:
        pixels = (Seed(0) / "device check" / name).rng().integers(0, 256, (n, *shape), dtype="uint8")
        return TensorSet(torch.from_numpy(pixels), torch.arange(n) % n_classes)

    labels = tuple(map(str, range(n_classes)))
    return TrainingData(draw("train", count), draw("validation", N_VALIDATION), draw("test", 0), labels)


def check_network(
    key: str,
    config: TrialConfig,
    shape: Shape,
    n_classes: int,
    n_images: int,
    device: DeviceChoice,
    *,
    compiled: bool = False,
) -> NetworkTraits:
    """The preflight check of a kind of network and, unless it is the processor, the check of its device.

    Raises:
        ModelMismatchError: as of `preflight`.
    """
    traits = preflight(config, shape, n_classes, n_images)
    if device.is_cpu:
        return traits
    network = NetworkKind(key, config, traits, shape, n_classes)
    check = load_or_check_device(network, device, compiled=compiled)
    return traits.model_copy(update={"device_check": check})


# ---------------------------------------------------------------- kept from run to run


def check_path(key: str, device: DeviceChoice, *, compiled: bool) -> Path:
    """The file that keeps the check of one kind of network on one device of this machine."""
    identity = [
        CHECK_VERSION, key, device.name, device.hardware, str(torch.__version__), cpu_name(), compiled,
    ]  # fmt: skip
    return cache_dir("devices") / f"{fingerprint(identity)}.json"


def load_or_check_device(
    network: NetworkKind,
    device: DeviceChoice,
    *,
    compiled: bool = False,
    train: TrainFn = train_population,
) -> DeviceCheck:
    """The check of a kind of network on a device, made now if it is not in the cache; as `check_device`.

    What raised an error is not kept: memory may have been short, or a driver broken.
    """
    path = check_path(network.key, device, compiled=compiled)
    with suppress(OSError, CorruptFileError):
        return DeviceCheck.read(path)
    check = check_device(network, device, compiled=compiled, train=train)
    if check.passed or check.loss_error is not None:
        with suppress(OSError):  # an unwritable cache: the next run checks again
            check.write(path)
    return check

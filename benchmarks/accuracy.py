"""Time to accuracy on a CPU, with statistics: the time until the mean of a recipe's replicates is as good.

A level is a recipe with a number of epochs that was chosen on validation images. All its replicates are
trained to the end and evaluated once on the test set. Their mean must reach the level, and every one counts.
"""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from statistics import median

import numpy as np

from benchmarks.compare import PROGRAMS, SETTLE_SECONDS
from benchmarks.dataset_cache import cache_dataset
from benchmarks.options import WORK, BenchmarkError, Options
from benchmarks.peer_protocol import PrepareRequest
from benchmarks.records import AccuracyLevel, Claim, KerasEpochs, RecipeTiming, TimeToAccuracyResults
from benchmarks.results_io import describe_measurement, log_progress, write_results
from benchmarks.training import CLASSES, NO_IMAGES, make_job, unevaluated
from benchmarks.workloads import EPOCH_IMAGES
from inklab.data.dataset import ImageSet, Split
from inklab.hardware import cores, disable_malloc_trim, preferred_dtype
from inklab.networks.layer_table import layer_table
from inklab.networks.layers import NormalizedModel
from inklab.records.execution import ExecutionConfig
from inklab.records.plan import Trial
from inklab.records.recipe import TrialConfig
from inklab.stats import estimate
from inklab.study.load import ConfiguredStudy, parse_study, prepare_study
from inklab.study.planner import distinct_configs
from inklab.training.batches import TrainingData, to_tensor_set
from inklab.training.objectives import objectives
from inklab.training.recipe_files import read_recipe_file
from inklab.training.trainer import train_population

MIN_REPLICATES = 2
REFERENCE_EPOCHS = 40
REFERENCE_ACCURACY = 0.9939
CLAIM, TARGET, STRETCH = "time-to-99.39/keras-tensorflow", 40.0, 80.0
WARM_UP_REPLICATE = 1_000_000  # none of those that are counted
SHAPE = (1, 28, 28)


@dataclass(frozen=True)
class Level:
    """An accuracy and the recipe that should reach it.

    Attributes:
        accuracy: the mean over replicates, on the test set.
        recipe: a built-in recipe that names its network.
        changes: replace fields of the recipe; chosen on validation images as well (docs/recipes).
    """

    accuracy: float
    recipe: str
    changes: Mapping[str, object] = field(default_factory=dict)

    @property
    def label(self) -> str:
        """The recipe and its changes."""
        return " ".join([self.recipe, *(f"{key}={value}" for key, value in self.changes.items())])


ONE_EPOCH = {"epochs": 1, "batch_size": 125, "learning_rate": 0.035, "augmentation": None}
LEVELS = (
    Level(0.990, "cnn-fast", ONE_EPOCH),
    Level(REFERENCE_ACCURACY, "cnn-fast"),
    Level(0.994, "cnn-fast"),
    Level(0.995, "cnn-best", {"epochs": 3}),
)
"""The reference network reached 99.39% in the best of its forty epochs."""


def measure_time_to_accuracy(options: Options) -> list[str]:
    """Train and evaluate every level's replicates, with epochs of Keras on the reference network in between.

    Returns:
        A line per level, and one for the claim.

    Raises:
        BenchmarkError: fewer than two replicates, or one that diverged.
        DataError: MNIST is not available.
        PeerError: Keras failed; nothing is written.
    """
    if options.replicates < MIN_REPLICATES:
        raise BenchmarkError(
            f"--replicates is {options.replicates}, but an interval needs at least {MIN_REPLICATES}"
        )
    keras = _KerasReference(options.images)
    timings: dict[str, RecipeTiming] = {}
    try:
        for level in LEVELS:  # two levels may need the same training
            if level.label not in timings:
                timings[level.label] = time_recipe(level, options.replicates, options.images, keras.epoch)
    finally:
        keras.close()
    levels = tuple(
        AccuracyLevel.model_validate(dict(timings[level.label]) | {"level": level.accuracy})
        for level in LEVELS
    )
    epochs = KerasEpochs(info=keras.info, epoch_seconds=tuple(keras.epoch_seconds))
    reference = next(level for level in levels if level.level == REFERENCE_ACCURACY)
    claim = _claim(reference, epochs, options.command)
    results = TimeToAccuracyResults(
        levels=levels, keras=epochs, measurement=describe_measurement(options.command)
    )
    write_results(options.output, "time-to-accuracy", results, {CLAIM: claim})
    return [*map(_format_level, levels), f"{CLAIM}: {claim.value:.0f} times as fast"]


def time_recipe(
    level: Level, replicates: int, images: int | None, between: Callable[[], None] = lambda: None
) -> RecipeTiming:
    """Train replicates one after the other on all cores, after a warm-up on other images.

    Args:
        level: what is trained.
        replicates: how many.
        images: fewer training images, for a trial run.
        between: called before the first, after the last and halfway: for what is measured beside.
    """
    import torch

    torch.set_num_threads(cores())
    disable_malloc_trim()
    config, split = open_level(level, images)
    start = time.perf_counter()
    train_replicate(_with_recipe(config, epochs=1), WARM_UP_REPLICATE, _noise_like(split.train))
    warm_up_seconds = time.perf_counter() - start
    seconds: list[float] = []
    nets: list[NormalizedModel] = []
    for replicate in range(replicates):
        if replicate in (0, replicates // 2):
            between()
        start = time.perf_counter()
        nets.append(train_replicate(config, replicate, split.train))
        seconds.append(time.perf_counter() - start)
        log_progress(f"{level.label}: {replicate + 1} of {replicates}, {seconds[-1]:.1f} s")
    between()
    macs = sum(row.macs or 0 for row in layer_table(nets[0].net, SHAPE))
    passes = objectives[config.recipe.objective].cost * len(split.train) * config.recipe.epochs
    return RecipeTiming(
        recipe=level.recipe,
        version=read_recipe_file(level.recipe).version,
        config=config,
        warm_up_seconds=warm_up_seconds,
        train_images=len(split.train),
        test=estimate(_accuracies(nets, split.test), images=len(split.test)),
        validation=estimate(_accuracies(nets, split.validation), images=len(split.validation)),
        time=estimate(seconds),
        parameters=sum(parameter.numel() for parameter in nets[0].parameters()),
        macs=macs,
        flops=2 * passes * macs,
    )


def _accuracies(nets: list[NormalizedModel], images: ImageSet) -> list[float]:
    from inklab.evaluation.scores import classification_scores

    return [classification_scores(net, images.pixels, images.labels).accuracy for net in nets]


def open_level(level: Level, images: int | None) -> tuple[TrialConfig, Split]:
    """The configuration, as a study's plan has it, and the study's split of MNIST."""
    name = level.recipe
    experiment = {"recipe": {"base": name, **level.changes}, "replicates": 1}
    table = {"name": name, "data": {"dataset": "mnist"}, "experiments": {name: experiment}}
    study = prepare_study(ConfiguredStudy(parse_study(table, name), "plain"))
    execution = ExecutionConfig.model_validate({"precision": preferred_dtype()})
    (config,) = distinct_configs(study.spec, study.data, execution).values()
    train = study.split.train
    return config, replace(study.split, train=train.take(np.arange(len(train))[:images]))


def _with_recipe(config: TrialConfig, **fields: object) -> TrialConfig:
    return config.model_copy(update={"recipe": config.recipe.model_copy(update=fields)})


def _noise_like(images: ImageSet) -> ImageSet:
    """As many images as are trained on, of noise."""
    noise = np.random.default_rng(0).integers(0, 256, images.pixels.shape, dtype=np.uint8)
    return replace(images, pixels=noise)


def train_replicate(config: TrialConfig, replicate: int, images: ImageSet) -> NormalizedModel:
    """One network, trained as a run trains it, without evaluating learning curves.

    Raises:
        BenchmarkError: it diverged, or did not compile.
    """
    timed_config = _with_recipe(config, objective=unevaluated(config.recipe.objective))
    job = make_job([Trial("timed", timed_config, replicate)], stacked=False)
    data = TrainingData(to_tensor_set(images.pixels, images.labels), NO_IMAGES, NO_IMAGES, CLASSES)
    (result,) = train_population(job, data)
    if result.divergence or not result.compiled:
        raise BenchmarkError(f"replicate {replicate}: {result.divergence or result.compile_error}")
    return result.net


class _KerasReference:
    """Keras on TensorFlow with the reference network: asleep, except for single epochs over 60,000 images."""

    def __init__(self, images: int | None) -> None:
        self.peer = PROGRAMS["keras-tensorflow"].start(WORK / "logs" / "time-to-accuracy")
        self.info = self.peer.prepare(PrepareRequest("cnn", str(cache_dataset()), images or EPOCH_IMAGES))
        self.epoch_seconds: list[float] = []

    def epoch(self) -> None:
        """One epoch; before and after it, threads fall asleep."""
        time.sleep(SETTLE_SECONDS)
        self.epoch_seconds.append(self.peer.measure().seconds)
        time.sleep(SETTLE_SECONDS)
        log_progress(f"Keras: {self.epoch_seconds[-1]:.1f} s per epoch")

    def close(self) -> None:
        """End the process."""
        self.peer.close()


def _claim(level: AccuracyLevel, keras: KerasEpochs, command: str) -> Claim:
    """How many times as fast: forty epochs of Keras, extrapolated, divided by our mean."""
    assert level.time.mean is not None
    ratios = sorted(REFERENCE_EPOCHS * epoch / level.time.mean for epoch in keras.epoch_seconds)
    extrapolation = f"extrapolated from {len(ratios)}"
    notes = f"{REFERENCE_EPOCHS} epochs of Keras, {extrapolation}, divided by our mean of n"
    return Claim(
        value=median(ratios), unit="ratio", low=ratios[0], high=ratios[-1],
        n=level.time.n, target=TARGET, stretch=STRETCH, reached=level.reached,
        notes=notes,
        command=command,
    )  # fmt: skip


def _format_level(level: AccuracyLevel) -> str:
    return (
        f"{level.level:.2%} {'reached' if level.reached else 'NOT reached'}: {level.recipe}, "
        f"{level.config.recipe.epochs} epochs, {level.time.mean or 0:.1f} s (SD {level.time.sd or 0:.1f}); "
        f"test accuracy {level.test.format('test_accuracy')}"
    )

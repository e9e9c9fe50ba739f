"""The results of the benchmarks: one typed record per file in `benchmarks/results/`."""

from typing import Literal

from benchmarks.peer_protocol import PeerInfo, UnitTiming
from benchmarks.ratios import MedianRatio
from benchmarks.workloads import EPOCH_IMAGES, Workload
from inklab.records.estimates import Difference, Estimate
from inklab.records.execution import DeviceCheck, DeviceChoice
from inklab.records.outcomes import Environment
from inklab.records.recipe import TrialConfig
from inklab.records.record import NonNegative, PositiveCount, Record, Share


class Measurement(Record):
    """Where a result comes from.

    Attributes:
        environment: what it was measured on.
        date: year, month and day, UTC.
        command: the command line.
    """

    environment: Environment
    date: str
    command: str


class Claim(Record):
    """A number that the project states about itself (an entry of `summary.json`).

    Attributes:
        value: a median or mean.
        unit: of it.
        low: lower end of its range; None if there is none.
        high: upper end of its range.
        n: pairs or replicates.
        target: what is required.
        stretch: a more ambitious target.
        command: that measures it.
        sd: over replicates.
        coverage: probability with which the range covers the true median.
        peer: that it compares with.
        reached: whether a level of accuracy was reached.
        notes: how it was computed.
    """

    value: float
    unit: str
    low: float | None
    high: float | None
    n: int
    target: float
    stretch: float | None = None
    command: str
    sd: float | None = None
    coverage: float | None = None
    peer: str | None = None
    reached: bool | None = None
    notes: str | None = None


class BenchmarkResults(Record):
    """What all files of results have in common.

    Attributes:
        format: 2.
        measurement: where they come from.
    """

    format: Literal[2] = 2
    measurement: Measurement


class ProgramTiming(Record):
    """A measured unit of one program.

    Attributes:
        program: its name.
        timing: seconds, images and loss.
    """

    program: str
    timing: UnitTiming

    @property
    def speed(self) -> float:
        """Member-epochs per second."""
        return self.timing.images / EPOCH_IMAGES / self.timing.seconds


Round = tuple[ProgramTiming, ...]


class ComparisonResults(BenchmarkResults):
    """inklab compared with peers on one workload.

    Attributes:
        workload: what is trained.
        programs: inklab and its peers by name.
        rounds: each has a unit of every program, in the same order.
        speeds: median member-epochs per second.
        fp32_ratios: median speed of inklab in fp32 divided by each peer's.
    """

    workload: Workload
    programs: dict[str, PeerInfo]
    rounds: tuple[Round, ...]
    speeds: dict[str, float]
    fp32_ratios: dict[str, float]


class ParityNetwork(Record):
    """Losses of one network in inklab and in Keras.

    Attributes:
        learning_rate: constant.
        l2: on the hidden kernels.
        chaotic: whether tiny differences grow, so that losses can't be compared.
        steps: that are compared.
        differences: largest relative difference from each backend.
        keras_difference: the same between two backends of Keras.
        equal: whether all differences are within the tolerance.
        losses: of inklab.
        keras_losses: of each backend.
        versions: of each backend.
    """

    learning_rate: float
    l2: float
    chaotic: bool
    steps: int
    differences: dict[str, float]
    keras_difference: float
    equal: bool
    losses: tuple[float, ...]
    keras_losses: dict[str, tuple[float, ...]]
    versions: dict[str, str]


class ParityResults(BenchmarkResults):
    """inklab's first losses compared with Keras's.

    Attributes:
        tolerance: largest relative difference that counts as equal.
        networks: by name.
    """

    tolerance: float
    networks: dict[str, ParityNetwork]


class ScalingPoint(Record):
    """Time and memory of one population.

    Attributes:
        members: of the population.
        images: that each is trained on.
        precision: of training.
        seconds: of the whole training.
        member_seconds: a member's share of it.
        member_epoch_seconds: what a member takes for 60,000 more images.
        peak_bytes: of the process.
    """

    members: int
    images: int
    precision: str
    seconds: float
    member_seconds: float
    member_epoch_seconds: float
    peak_bytes: int


class ScalingResults(BenchmarkResults):
    """How time and memory grow.

    Attributes:
        workload: its name.
        by_members: more and more members.
        by_images: more and more images.
    """

    workload: str
    by_members: tuple[ScalingPoint, ...]
    by_images: tuple[ScalingPoint, ...]


class PrecisionResults(BenchmarkResults):
    """The same replicates trained in fp32 and in bf16.

    Attributes:
        epochs: of each training.
        images: of each epoch.
        scores: by precision and metric, one value per replicate.
        differences: bf16 minus fp32, by metric.
    """

    epochs: int
    images: int
    scores: dict[str, dict[str, tuple[float, ...]]]
    differences: dict[str, Difference]


class CheckpointPair(Record):
    """Seconds of one training.

    Attributes:
        with_checkpoints: one per interval.
        without: none.
    """

    with_checkpoints: float
    without: float


class CheckpointCost(Record):
    """What checkpoints cost on one workload.

    Attributes:
        pairs: alternating trainings.
        write_seconds: of single checkpoints.
        bytes: of one.
        slowdown: median relative slowdown at the measured interval.
        default_slowdown: the same at the default interval.
        expected_slowdown: from the time to write one.
    """

    pairs: tuple[CheckpointPair, ...]
    write_seconds: tuple[float, ...]
    bytes: int
    slowdown: float
    default_slowdown: float
    expected_slowdown: float


class CheckpointResults(BenchmarkResults):
    """What checkpoints cost.

    Attributes:
        interval_seconds: as measured.
        default_interval_seconds: of a run.
        target: largest slowdown at the default interval.
        workloads: by name.
    """

    interval_seconds: float
    default_interval_seconds: float
    target: float
    workloads: dict[str, CheckpointCost]


class CommandTimes(Record):
    """Seconds of one command.

    Attributes:
        median: of all.
        seconds: one per round.
    """

    median: float
    seconds: tuple[float, ...]


class LargeRunTimes(Record):
    """A command on a run with few outcomes and on one with many.

    Attributes:
        few: seconds with few.
        many: seconds with many.
        difference: of the medians.
        low: smallest difference of a round.
        high: largest difference of a round.
        n: rounds.
        command: that was run.
    """

    few: CommandTimes
    many: CommandTimes
    difference: float
    low: float
    high: float
    n: int
    command: str


class LargeRunResults(Record):
    """What many stored outcomes cost.

    Attributes:
        format: 2.
        few: outcomes of the small run.
        many: outcomes of the large run.
        epochs: of each history.
        n: rounds.
        target: seconds that many may take more than few.
        target_commands: commands to which the target applies.
        commands: times by name.
        environment: processor and versions.
        command: the command line.
        date: year, month and day.
    """

    format: Literal[2] = 2
    few: int
    many: int
    epochs: int
    n: int
    target: float
    target_commands: tuple[str, ...]
    commands: dict[str, LargeRunTimes]
    environment: dict[str, str | int]
    command: str
    date: str

    def is_reached(self, name: str) -> bool | None:
        """Whether a command reaches the target; None if it has none."""
        applies = name in self.target_commands
        return self.commands[name].difference <= self.target if applies else None


class StudyRun(Record):
    """A complete run of the digits study.

    Attributes:
        seconds: from the command to the report.
        peak_bytes: of the runner and all workers together.
        experiments: seconds of each.
    """

    seconds: float
    peak_bytes: int
    experiments: dict[str, float]


class StudyResults(BenchmarkResults):
    """What a user waits for.

    Attributes:
        runs: by profile.
        commands: seconds of short commands.
        targets: seconds by profile or command; `peak_bytes` of the full run.
    """

    runs: dict[str, tuple[StudyRun, ...]]
    commands: dict[str, tuple[float, ...]]
    targets: dict[str, float]


class ServerLoad(Record):
    """What a server answered.

    Attributes:
        requests_per_second: throughput.
        p50_ms: median latency.
        p99_ms: 99th percentile of the latency.
        dropped: requests without an answer, or with an error.
    """

    requests_per_second: float
    p50_ms: float
    p99_ms: float
    dropped: int


class LoadRound(ServerLoad):
    """One measurement of a server.

    Attributes:
        requests: that were answered.
    """

    requests: int


class ServingTargets(Record):
    """What is required of the server.

    Attributes:
        p50_ms_at_1: median latency with one client.
        requests_per_second: the best median throughput over all numbers of clients.
    """

    p50_ms_at_1: float
    requests_per_second: float


class ServingResults(BenchmarkResults):
    """Latency and throughput of `inklab serve`.

    Attributes:
        tool: that sends requests.
        seconds: of one measurement.
        targets: what is required.
        n: rounds.
        pipeline: that is asked.
        clients: rounds by number of clients.
        summary: medians over rounds, by number of clients; `dropped` is the sum.
    """

    tool: str
    seconds: float
    targets: ServingTargets
    n: int
    pipeline: str
    clients: dict[str, tuple[LoadRound, ...]]
    summary: dict[str, ServerLoad]


class CallTimes(Record):
    """Latency of calls with one image each.

    Attributes:
        n: calls.
        median_ms: milliseconds.
        p95_ms: the time that 95% of the calls do not exceed.
    """

    n: int
    median_ms: float
    p95_ms: float


class PredictionPair(Record):
    """Seconds of one pass over all images.

    Attributes:
        inklab: `TrainedModel.predict`.
        bare: a plain torch loop.
    """

    inklab: float
    bare: float


class PredictionTimes(Record):
    """What prediction takes with one network.

    Attributes:
        network: its name.
        threads: of torch.
        one_image: latency of `predict`.
        bare_one_image: latency of a bare torch program.
        passes: over all images in each timed unit; seconds are those of one.
        pairs: alternating units.
        ratio: seconds of inklab divided by those of the bare loop.
    """

    network: str
    threads: int
    one_image: CallTimes
    bare_one_image: CallTimes
    passes: int
    pairs: tuple[PredictionPair, ...]
    ratio: MedianRatio


class PredictionTargets(Record):
    """What is required of `TrainedModel.predict`.

    Attributes:
        one_image_ms: median latency.
        ratio: seconds divided by those of a bare torch loop.
    """

    one_image_ms: float
    ratio: float


class PredictionResults(BenchmarkResults):
    """What `TrainedModel.predict` costs.

    Attributes:
        images: of one pass.
        batch_size: of both sides.
        targets: what is required.
        times: one entry per network and number of threads.
    """

    images: int
    batch_size: int
    targets: PredictionTargets
    times: tuple[PredictionTimes, ...]


class ApiOverheadPair(Record):
    """Seconds of the same study.

    Attributes:
        command: `inklab run`, from start to exit.
        script: a Python program that calls `inklab.run`.
    """

    command: float
    script: float


class ApiOverheadResults(BenchmarkResults):
    """What the Python API costs compared with the command line.

    Attributes:
        target: largest ratio.
        workers: processes of a run.
        threads: of each worker.
        trials: of the study; their numbers are equal in every pair.
        pairs: alternating runs.
        ratio: seconds of the script divided by those of the command.
    """

    target: float
    workers: int
    threads: int
    trials: int
    pairs: tuple[ApiOverheadPair, ...]
    ratio: MedianRatio


class RecipeTiming(Record):
    """Replicates of one recipe, trained and evaluated.

    Attributes:
        recipe: its name.
        version: of the recipe.
        config: as trained.
        warm_up_seconds: of a first training on noise, which compiles and loads the program.
        train_images: of each epoch.
        test: accuracy on the test set.
        validation: accuracy on the validation split.
        time: seconds of training.
        parameters: of the network.
        macs: multiply-accumulates of one image.
        flops: of one training, two per multiply-accumulate.
    """

    recipe: str
    version: int
    config: TrialConfig
    warm_up_seconds: float
    train_images: int
    test: Estimate
    validation: Estimate
    time: Estimate
    parameters: int
    macs: int
    flops: int


class AccuracyLevel(RecipeTiming):
    """A level of accuracy and the recipe that reaches it.

    Attributes:
        level: mean test accuracy that is required.
    """

    level: float

    @property
    def reached(self) -> bool:
        """Whether the mean over replicates is as good."""
        return self.test.mean is not None and self.test.mean >= self.level


class KerasEpochs(Record):
    """Single epochs of Keras between inklab's trainings.

    Attributes:
        info: versions.
        epoch_seconds: one per epoch.
    """

    info: PeerInfo
    epoch_seconds: tuple[float, ...]


class TimeToAccuracyResults(BenchmarkResults):
    """Time to accuracy.

    Attributes:
        levels: what is required, from low to high.
        keras: what the reference network takes.
    """

    levels: tuple[AccuracyLevel, ...]
    keras: KerasEpochs


class BestScore(Estimate):
    """A score of one of the best recipes.

    Attributes:
        environment: what it was trained on.
        date: on which it was stored.
        trained_by: the command of the run.
    """

    environment: Environment
    date: str
    trained_by: str


class RecallAtStrength(Record):
    """Mean recall with the best denoiser, at one strength.

    Attributes:
        strength: of the corruption.
        recall: with the denoiser.
        baseline: without it.
        target: what is required.
    """

    strength: float
    recall: float | None
    baseline: float | None
    target: float


class BestResults(Record):
    """What the best recipes reach.

    Attributes:
        format: 2.
        scores: by claim.
        robustness: by strength.
    """

    format: Literal[2] = 2
    scores: dict[str, BestScore] = {}
    robustness: tuple[RecallAtStrength, ...] = ()


class GpuSpeed(Record):
    """How fast populations of one size are trained.

    Attributes:
        workload: that is trained.
        members: of the population.
        rates: member-epochs of 60,000 images a second, one for each round.
        median: of them.
    """

    workload: str
    members: PositiveCount
    rates: tuple[NonNegative, ...]
    median: NonNegative


class GpuAccuracy(Record):
    """Test accuracies of replicates on a device and on the processor, in pairs.

    Attributes:
        epochs: of each training.
        device: one for each replicate, on the device.
        cpu: on the processor.
        difference: of their means, paired by replicate.
    """

    epochs: PositiveCount
    device: tuple[Share, ...]
    cpu: tuple[Share, ...]
    difference: Difference


class GpuResults(BenchmarkResults):
    """What was measured on a GPU.

    Attributes:
        device: that was measured.
        checks: of the device, by workload.
        speeds: by workload and size of the population.
        accuracy: against the processor's.
    """

    device: DeviceChoice
    checks: dict[str, DeviceCheck]
    speeds: tuple[GpuSpeed, ...]
    accuracy: GpuAccuracy

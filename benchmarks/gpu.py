"""`python -m benchmarks gpu`: everything that is measured on a GPU, in under ten minutes, as one JSON file.

Checks of the device for each network of the study, member-epochs a second for several sizes of a population,
and test accuracies in pairs with the processor's. Not measured here: the whole study from start to report
(`python -m benchmarks study`), the time to an accuracy (`time-to-accuracy`), and Keras on the same GPU.
"""

import time
from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np
import torch

from benchmarks.options import Options
from benchmarks.records import GpuAccuracy, GpuResults, GpuSpeed
from benchmarks.results_io import describe_measurement, log_progress, write_results
from benchmarks.training import make_config, make_population, train, unevaluated
from benchmarks.workloads import EPOCH_IMAGES, WORKLOADS, Workload
from inklab.data.dataset import ImageSet
from inklab.data.sources import load_dataset
from inklab.evaluation.scores import classification_scores
from inklab.records.execution import CPU, DeviceCheck, DeviceChoice
from inklab.records.plan import Trial
from inklab.stats import paired_difference
from inklab.study.devices import choose_device, find_accelerators
from inklab.training.batches import TensorSet, TrainingData, to_tensor_set
from inklab.training.device_check import NetworkKind, check_device
from inklab.training.population import PopulationSpec
from inklab.training.preflight import preflight

POPULATIONS = {"l2-sweep": (1, 8, 32, 128), "denoiser": (1, 8, 32), "cnn": (1,)}
SMALL_IMAGES, SMALL_REPLICATES, SMALL_POPULATIONS = 300, 2, (1, 2)
ACCURACY_EPOCHS = 3
SHAPE, CLASSES = (1, 28, 28), 10


def measure_gpu(options: Options) -> list[str]:
    """Measure a GPU, or with `--device cpu --small` the processor, to see that everything runs.

    Returns:
        Lines to print; one, if there is no GPU.
    """
    accelerators = find_accelerators(options.device)
    device = choose_device(options.device, accelerators)
    if device.is_cpu and options.device == "auto":
        return [f"no GPU to measure: {accelerators.explanation}"]
    data = _read_data("mnist-5k", SMALL_IMAGES) if options.small else _read_data("mnist", EPOCH_IMAGES)
    checks = {name: _check(workload, device) for name, workload in WORKLOADS.items()}
    speeds = tuple(_speeds(device, data, small=options.small, rounds=2 if options.small else options.rounds))
    n_replicates = SMALL_REPLICATES if options.small else options.replicates
    results = GpuResults(
        measurement=describe_measurement(options.command), device=device, checks=checks, speeds=speeds,
        accuracy=_accuracies(device, data, n_replicates),
    )  # fmt: skip
    write_results(options.output, "gpu", results)
    return _lines(results)


def _read_data(name: str, count: int) -> TrainingData:
    """The first training images of a data set, and as many of its test images."""
    dataset = load_dataset(name)
    train, test = dataset.train, dataset.test
    few = min(count, len(test))
    return TrainingData(_tensors(train, count), _tensors(test, 0), _tensors(test, few), dataset.labels)


def _tensors(images: ImageSet, count: int) -> TensorSet:
    return to_tensor_set(images.pixels[:count], images.labels[:count])


def _check(workload: Workload, device: DeviceChoice) -> DeviceCheck:
    log_progress(f"check of {workload.name}")
    config = make_config(workload, "fp32", objective=_objective(workload))
    traits = preflight(config, SHAPE, CLASSES)
    return check_device(NetworkKind(workload.name, config, traits, SHAPE, CLASSES), device)


def _speeds(device: DeviceChoice, data: TrainingData, *, small: bool, rounds: int) -> Iterator[GpuSpeed]:
    """Member-epochs a second of each network and size of a population, uncompiled, after a warm-up."""
    # The denoiser's batches have the images as targets; noise is drawn by counter and costs little.
    for name, sizes in POPULATIONS.items():
        for members in SMALL_POPULATIONS[: len(sizes)] if small else sizes:
            workload = WORKLOADS[name]
            job = replace(
                make_population(workload, "fp32", 0, members, objective=unevaluated(_objective(workload))),
                device=device.name, compiled=False,
            )  # fmt: skip
            _time(job, replace(data, train=_first(data.train, 2 * workload.batch_size)))
            rates = [members * len(data.train) / EPOCH_IMAGES / _time(job, data) for _ in range(rounds)]
            log_progress(f"{name}, {members} members: {np.median(rates):.3g} member-epochs a second")
            yield GpuSpeed(workload=name, members=members, rates=tuple(rates), median=float(np.median(rates)))


def _objective(workload: Workload) -> str:
    return "reconstruct" if workload.denoises else "classify"


def _first(images: TensorSet, count: int) -> TensorSet:
    return TensorSet(images.pixels[:count], images.labels[:count])


def _time(job: PopulationSpec, data: TrainingData) -> float:
    """Seconds of a training; its last epoch reads the losses, which waits for the device."""
    data = data.to(job.torch_device)
    started = time.perf_counter()
    train(job, data)
    return time.perf_counter() - started


def _accuracies(device: DeviceChoice, data: TrainingData, n_replicates: int) -> GpuAccuracy:
    """Test accuracies of replicates of the sweep's network, on the device and on the processor."""
    on_device, on_cpu = (_accuracies_on(name, data, n_replicates) for name in (device.name, CPU))
    return GpuAccuracy(
        epochs=ACCURACY_EPOCHS, device=tuple(on_device), cpu=tuple(on_cpu),
        difference=paired_difference(on_device, on_cpu),
    )  # fmt: skip


def _accuracies_on(device: str, data: TrainingData, n_replicates: int) -> list[float]:
    log_progress(f"accuracies on {device}")
    config = make_config(WORKLOADS["l2-sweep"], "fp32", objective="classify", epochs=ACCURACY_EPOCHS)
    trials = [Trial(f"pair-{replicate}", config, replicate) for replicate in range(n_replicates)]
    nets = [
        result.net.cpu()
        for start in range(0, n_replicates, 8)
        for result in train(PopulationSpec(trials[start : start + 8], True, False, 0, device=device), data)
    ]
    pixels, labels = data.test.pixels, data.test.labels
    return [classification_scores(net, pixels, labels).accuracy for net in nets]


def _lines(results: GpuResults) -> list[str]:
    checks = [f"check of {name}: {check.description}" for name, check in results.checks.items()]
    speeds: Sequence[str] = [
        f"{speed.workload}, {speed.members} members: {speed.median:.3g} member-epochs a second "
        f"(n = {len(speed.rates)})"
        for speed in results.speeds
    ]
    pair = results.accuracy
    name, mean, n = results.device.name, pair.difference.mean, len(pair.cpu)
    difference = f"test accuracy on {name} minus the CPU's: {mean}, 95% CI {pair.difference.ci95} (n = {n})"
    return [f"device {results.device.description}; torch {torch.__version__}", *checks, *speeds, difference]

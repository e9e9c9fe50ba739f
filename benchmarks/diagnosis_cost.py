"""What diagnoses cost a training: the same one without and with them, alternately."""

import time

from benchmarks.diagnosis import load_training_data, predict_classes
from benchmarks.diagnosis_records import DiagnosisCost, DiagnosisCostResults
from benchmarks.options import Options
from benchmarks.ratios import median_ratio
from benchmarks.results_io import describe_measurement, log_progress, write_results
from inklab.networks.layers import NormalizedModel
from inklab.records.components import NetworkConfig, NormalizeConfig
from inklab.records.outcomes import History
from inklab.records.plan import Trial
from inklab.records.recipe import Recipe, TrialConfig
from inklab.training.batches import TrainingData
from inklab.training.diagnostics import diagnose_training
from inklab.training.population import PopulationSpec
from inklab.training.recipe_files import read_recipe_file
from inklab.training.trainer import train_population

TARGET = 1.02  # seconds with diagnoses over those without
EPOCHS = {"mlp": 10, "cnn": 2}  # cnn is the dearer one; few epochs are the worst case


def measure_diagnosis_cost(options: Options) -> list[str]:
    """Train `mlp` and `cnn` with the recipe `sgd` on MNIST, `options.rounds` times each way.

    As in a run, a training is diagnosed after its first epoch and at its end.

    Returns:
        A line for each network.
    """
    data = load_training_data("mnist", options.images)
    costs = tuple(_measure(network, data, options.rounds) for network in EPOCHS)
    results = DiagnosisCostResults(
        target=TARGET, costs=costs, measurement=describe_measurement(options.command)
    )
    write_results(options.output, "diagnosis-cost", results)
    return [
        f"{cost.network}: with / without diagnoses {cost.ratio.value:.4f} ({cost.ratio.low:.4f} to "
        f"{cost.ratio.high:.4f}, n = {cost.ratio.n})"
        for cost in costs
    ]


def _measure(network: str, data: TrainingData, rounds: int) -> DiagnosisCost:
    fields = {**read_recipe_file("sgd").fields, "epochs": EPOCHS[network]}
    config = TrialConfig(
        network=NetworkConfig.of(network), normalize=NormalizeConfig(), recipe=Recipe.parse(fields),
        precision="fp32",
    )  # fmt: skip
    _seconds(Trial("warm-up", config, 0), data, diagnosed=True)
    seconds: dict[bool, list[float]] = {False: [], True: []}
    for number in range(rounds):
        for diagnosed in (False, True) if number % 2 == 0 else (True, False):
            seconds[diagnosed].append(_seconds(Trial("trial", config, number), data, diagnosed=diagnosed))
        log_progress(
            f"{network}: {seconds[False][-1]:.2f} s without, {seconds[True][-1]:.2f} s with diagnoses"
        )
    pairs = zip(seconds[True], seconds[False], strict=True)
    return DiagnosisCost(
        network=network, plain=tuple(seconds[False]), diagnosed=tuple(seconds[True]),
        ratio=median_ratio([with_them / without for with_them, without in pairs]),
    )  # fmt: skip


def _seconds(trial: Trial, data: TrainingData, *, diagnosed: bool) -> float:
    """Seconds of a training and of its predictions on the test images, which every training makes."""

    def diagnose_first_epoch(trial: Trial, net: NormalizedModel, history: History) -> None:
        if diagnosed and len(history.epoch) == 1:
            diagnose_training(trial, net, history, data, 0)

    spec = PopulationSpec([trial], stacked=False, reseed_each_step=False, seed=0)
    start = time.perf_counter()
    (result,) = train_population(spec, data, on_member=diagnose_first_epoch)
    predicted = predict_classes(result.net, data.test)
    if diagnosed:
        diagnose_training(trial, result.net, result.history, data, 0, None, predicted)
    return time.perf_counter() - start

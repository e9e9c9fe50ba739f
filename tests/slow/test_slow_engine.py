"""Slow proofs on real digits at full size; `make test-slow`. The fast suite proves the same on small ones."""

import os
from itertools import islice

import numpy as np
import pytest
import torch
from torch import nn

from inklab.data.dataset import split
from inklab.data.sources import load_dataset
from inklab.networks.network import build_network
from inklab.records.components import NetworkConfig, NormalizeConfig
from inklab.records.plan import Trial
from inklab.records.recipe import Recipe, TrialConfig
from inklab.seeding import Seed
from inklab.study.load import prepare_study, read_study
from inklab.study.resources import ExecutionOptions
from inklab.study.run_directory import RunDirectory
from inklab.study.runner import StudyRunner
from inklab.training.batches import BatchLoader, TrainingData, to_tensor_set
from inklab.training.objectives import objectives
from inklab.training.optimizers import HyperSchedule, make_optimizer
from inklab.training.population import PopulationSpec, l2_param_names, single_member
from inklab.training.step import TrainStep, scale_batch
from inklab.training.trainer import train_population

pytestmark = pytest.mark.slow
STEPS = 50
DENSE = NetworkConfig.of("mlp", hidden=[500, 300])
NOISE = {"name": "salt_and_pepper", "strength": [0.4, 0.4]}


@pytest.fixture(scope="module")
def data() -> TrainingData:
    dataset = load_dataset("mnist" if os.environ.get("INKLAB_DATA_DIR") else "mnist-5k")
    parts = split(dataset, validation=500, seed=0)
    first = slice(0, 6_400)
    train = to_tensor_set(parts.train.pixels[first], parts.train.labels[first])
    validation, test = (
        to_tensor_set(part.pixels[:500], part.labels[:500]) for part in (parts.validation, parts.test)
    )
    return TrainingData(train, validation, test, dataset.labels)


def trial_config(network, precision, **recipe):
    return TrialConfig(
        network=network, normalize=NormalizeConfig(), recipe=Recipe(**recipe), precision=precision
    )


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_a_full_size_member_is_independent(data, precision):
    trials = [Trial(str(k), trial_config(DENSE, precision, epochs=1, l2=1e-5 * k), k) for k in range(16)]
    populations = (trials, trials[:8], trials[3:4], trials[5:1:-1])
    for threads in (1, 2):
        torch.set_num_threads(threads)
        results = []
        for population in populations:
            job = PopulationSpec(population, stacked=True, reseed_each_step=False, seed=0)
            results.append(next(result for result in train_population(job, data) if result.trial.id == "3"))
        torch.set_num_threads(1)
        for other in results[1:]:
            assert other.history == results[0].history
            for name, value in other.net.state_dict().items():
                assert torch.equal(value, results[0].net.state_dict()[name]), (precision, threads, name)


def test_compiled_populations_of_any_size_clip_and_average_alike(data):
    """Norms are sums over all parameters, which a compiler may order as it likes."""
    config = trial_config(
        DENSE, "fp32", epochs=1, optimizer="adamw", weight_decay=0.1, learning_rate=1e-3, clip_norm=0.5,
        ema_decay=0.9, schedule="one-cycle",
    )  # fmt: skip
    trials = [Trial(str(k), config, k) for k in range(4)]
    whole, half = (
        train_population(
            PopulationSpec(trials[:size], stacked=True, reseed_each_step=False, seed=0, compiled=True), data
        )
        for size in (4, 2)
    )
    for result, expected in zip(half, whole, strict=False):
        assert result.compiled and expected.compiled and result.history == expected.history
        for name, value in result.net.state_dict().items():
            assert torch.equal(value, expected.net.state_dict()[name]), name


CASES = {
    "dense": (DENSE, {"l2": 1e-4, "l2_params": ["hidden.*.weight"]}),
    "cnn": (NetworkConfig.of("cnn", dropout=0.0), {}),
    "denoiser": (
        NetworkConfig.of("autoencoder"),
        {
            "objective": "reconstruct", "optimizer": "adam", "learning_rate": 1e-3, "batch_size": 64,
            "corruption": NOISE,
        },
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_the_first_losses_are_those_of_an_ordinary_loop(data, case):
    network, fields = CASES[case]
    recipe = Recipe(epochs=1, **fields)
    seed = Seed(0) / "replicate" / 0
    net = build_network(network, data.shape, 10, seed / "weights").to(memory_format=torch.channels_last)
    batches = list(islice(BatchLoader(data, recipe, [seed], stacked=False).epoch(0), STEPS))
    np.testing.assert_allclose(
        trained_by_inklab(net, recipe, batches), trained_by_torch(net, recipe, batches), rtol=1e-4
    )


def trained_by_inklab(net, recipe, batches):
    optimizer = make_optimizer(recipe.optimizer, recipe.momentum)
    l2_params = l2_param_names(net, recipe.l2_params)
    step = TrainStep(net, objectives[recipe.objective], optimizer, l2_params, False, "fp32")
    state, losses = step.init_state(*single_member(net)), []
    schedule = HyperSchedule([recipe], STEPS, stacked=False)
    for number, batch in enumerate(batches):
        state, loss = step(state, batch, {}, schedule.at(number))
        losses.append(float(loss))
    return losses


def trained_by_torch(net: nn.Module, recipe, batches):
    optimizer = (
        torch.optim.Adam(net.parameters(), recipe.learning_rate)
        if recipe.optimizer == "adam"
        else torch.optim.SGD(net.parameters(), recipe.learning_rate)
    )
    kernels = [
        p for name, p in net.named_parameters() if name.startswith("hidden") and name.endswith("weight")
    ]
    losses = []
    for number, batch in enumerate(map(scale_batch, batches)):
        if recipe.optimizer == "adam":  # Keras's epsilon, which is added to the uncorrected root
            optimizer.param_groups[0]["eps"] = 1e-7 / (1 - 0.999 ** (number + 1)) ** 0.5
        optimizer.zero_grad()
        output = net(batch.inputs)
        if recipe.objective == "classify":
            loss = nn.functional.cross_entropy(output, batch.labels)
        else:
            loss = nn.functional.binary_cross_entropy_with_logits(output, batch.images)
        losses.append(loss.item())
        penalty = sum((kernel**2).sum() for kernel in kernels) if recipe.l2 else 0.0
        (loss + recipe.l2 * penalty).backward()
        optimizer.step()
    return losses


def test_the_quick_study_does_not_depend_on_the_number_of_workers(tmp_path):
    """Two whole runs of `quick` on mnist-5k: about three minutes."""
    results = []
    for workers in (1, 2):
        loaded = read_study("digits", profile="quick", overrides=["data.dataset=mnist-5k"])
        directory = RunDirectory(tmp_path / str(workers))
        options = ExecutionOptions(workers=workers)
        result = StudyRunner(prepare_study(loaded), directory, options).run().to_json()
        results.append({key: value for key, value in result.items() if key not in ("timings", "environment")})
    assert results[0] == results[1]

"""Diagnoses apply to the fault they are named after and to nothing else, and change nothing."""

import dataclasses
from pathlib import Path
from typing import Any

import pytest
import torch
from synthetic_training import (
    MOVED,
    SMALL_CNN,
    replicates_of,
    same_bits,
    train_one,
    trial_config,
)

from inklab.records.components import NetworkConfig, NormalizeConfig
from inklab.records.outcomes import History
from inklab.training.diagnostics import Finding, Stage, diagnose, diagnosis, diagnosis_rules
from inklab.training.measurements import TrainingMeasurements, label_information, measure_training
from inklab.training.network_measurements import Probe, measure_network
from inklab.training.population import PopulationSpec
from inklab.training.trainer import TrainingResult, train_population

FAULTY = Path(__file__).parents[2] / "benchmarks" / "faulty_networks.py"
TWICE: dict[str, Any] = {"normalize": NormalizeConfig(std=255.0)}
LEARNS: dict[str, Any] = {"epochs": 12, "learning_rate": 0.3, "batch_size": 16}


def measure(result: TrainingResult, data, predictions=None) -> TrainingMeasurements:
    return measure_training(result.trial, result.net, result.history, data, 0, result.divergence, predictions)


def names(result: TrainingResult, data, predictions=None) -> list[str]:
    return [diagnosis.name for diagnosis in diagnose(measure(result, data, predictions))]


def faulty(fault: str = "", base: str = "mlp") -> NetworkConfig:
    return NetworkConfig.of(f"{FAULTY}:faulty", base=base, fault=fault)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_inputs_scaled_twice_are_diagnosed(precision, data):
    result = train_one(trial_config(precision=precision, epochs=4, **TWICE), data)
    (diagnosis,) = diagnose(measure(result, data))
    assert diagnosis.name == "inputs-scaled-twice"
    assert diagnosis.evidence["spread_ratio"] == pytest.approx(1 / 255, rel=1e-3)
    assert diagnosis.evidence["label_entropy"] == pytest.approx(2.3026, abs=1e-3)
    assert diagnosis.evidence["loss"] == pytest.approx(diagnosis.evidence["label_entropy"], abs=0.05)
    assert "0.0039" in diagnosis.message and "255" in diagnosis.advice


HEALTHY = {
    "trained": trial_config(**LEARNS),
    "one-step": trial_config(batch_size=200),
    "normalized": trial_config(epochs=6, normalize=NormalizeConfig(mean=0.2, std=0.25)),
    "wider": trial_config(epochs=4, normalize=NormalizeConfig(std=4.0)),
    "augmented": trial_config(epochs=2, **MOVED),
    "softmax regression": trial_config(NetworkConfig.of("mlp", hidden=[]), epochs=12, batch_size=16),
    "cnn": trial_config(SMALL_CNN, epochs=2),
}


@pytest.mark.parametrize("case", HEALTHY)
def test_healthy_trainings_have_no_diagnosis(case, data):
    result = train_one(HEALTHY[case], data, stacked=case != "cnn")
    assert result.divergence is None
    assert names(result, data) == []


NETWORK_FAULTS = {
    "divides": "inputs-scaled-twice",
    "multiplies": "inputs-too-large",
    "softmax": "outputs-are-probabilities",
    "sigmoid": "outputs-are-probabilities",
    "relu": "relu-on-outputs",
    "zero-weights": "zero-weights",
    "constant-weights": "zero-weights",
    "large-weights": "exploding-gradients",
    "linear": "network-is-linear",
    "dead": "dead-units",
    "deep-sigmoid": "vanishing-gradients",
}


@pytest.mark.parametrize("fault", ["", *NETWORK_FAULTS])
def test_a_fault_of_the_network_is_named_and_nothing_else(fault, data):
    result = train_one(trial_config(faulty(fault), epochs=8, batch_size=20), data, stacked=False)
    assert names(result, data) == ([NETWORK_FAULTS[fault]] if fault else [])


RECIPE_FAULTS: dict[str, list[dict[str, Any]]] = {
    "learning-rate-too-high": [{"learning_rate": 1e4}, {"learning_rate": 20.0}],
    "learning-rate-too-low": [{"learning_rate": 1e-5}, {"optimizer": "adam", "learning_rate": 1e-7}],
    "l2-too-strong": [{"l2": 0.5}],
    "loss-without-softmax": [{"objective": f"{FAULTY}:loss_nll_of_outputs"}],
    "labels-permuted": [{"objective": f"{FAULTY}:loss_off_by_one", "learning_rate": 0.3}],
}


@pytest.mark.parametrize(
    ("name", "recipe"), [(name, recipe) for name, recipes in RECIPE_FAULTS.items() for recipe in recipes]
)
def test_a_fault_of_the_recipe_is_named_and_nothing_else(name, recipe, data):
    result = train_one(trial_config(**{"epochs": 12, "batch_size": 16, **recipe}), data)
    assert names(result, data) == [name]


def test_tiny_batches_with_batch_norm_are_named(data):
    result = train_one(trial_config(faulty("batch-norm"), batch_size=2), data, stacked=False)
    assert names(result, data) == ["batch-norm-tiny-batches"]
    assert measure(result, data).has_batch_norm


def relabeled(data, change):
    train, validation = (
        dataclasses.replace(part, labels=change(part.labels)) for part in (data.train, data.validation)
    )
    return dataclasses.replace(data, train=train, validation=validation)


def test_labels_that_differ_between_splits_are_named_by_the_test_images(data):
    moved = relabeled(data, lambda labels: (labels + 1) % 10)
    result = train_one(trial_config(**LEARNS), moved)
    predictions = result.net(moved.test.images(torch.arange(60))).argmax(1)
    assert names(result, moved) == []  # training and validation images agree with each other
    assert names(result, moved, predictions) == ["labels-permuted"]


def test_shuffled_labels_are_unrelated_to_the_images(data):
    shuffled = relabeled(data, lambda labels: labels[torch.randperm(len(labels))])
    assert label_information(data) > 10
    assert abs(label_information(shuffled)) < 4
    result = train_one(trial_config(**LEARNS), shuffled)
    measured = dataclasses.replace(measure(result, shuffled), label_z=0.0)
    assert measured.is_at_chance and [row.name for row in diagnose(measured)] == ["labels-unrelated"]


@pytest.mark.parametrize("divisor", [16, 255])
def test_nearly_black_images_are_named_unless_they_are_normalized(divisor, data):
    parts = {name: getattr(data, name) for name in ("train", "validation", "test")}
    dark = dataclasses.replace(
        data, **{k: dataclasses.replace(part, pixels=part.pixels // divisor) for k, part in parts.items()}
    )
    assert names(train_one(trial_config(), dark), dark) == ["images-nearly-black"]
    standard = NormalizeConfig(std=float(dark.train.all_images.std()))
    assert names(train_one(trial_config(normalize=standard, epochs=2), dark), dark) == []


def test_constant_labels_and_blank_images_have_no_diagnosis(data):
    """One class for all is right where there is one class; blank images say nothing about their scaling."""
    constant = relabeled(data, torch.ones_like)
    assert names(train_one(trial_config(epochs=4, **TWICE), constant), constant) == []
    blank = dataclasses.replace(data, train=dataclasses.replace(data.train, pixels=data.train.pixels * 0))
    assert names(train_one(trial_config(**TWICE), blank), blank) == []


@pytest.fixture(scope="module")
def healthy(digits) -> TrainingMeasurements:
    from synthetic_training import training_data

    pixels, labels = digits
    data = training_data(pixels, labels, train=200, validation=40)
    return measure(train_one(trial_config(**LEARNS), data), data)


def curves(**columns: Any) -> History:
    """Learning curves of three epochs."""
    return History(epoch=(1, 2, 3), **columns)


RISING = curves(
    train_loss=(0.5, 0.2, 0.01), train_accuracy=(0.9, 0.95, 1.0),
    validation_loss=(0.8, 0.6, 0.9), validation_accuracy=(0.7, 0.8, 0.8),
)  # fmt: skip
FALLING = curves(
    train_loss=(2.2, 2.0, 1.7), train_accuracy=(0.3, 0.4, 0.5),
    validation_loss=(2.2, 2.0, 1.7), validation_accuracy=(0.3, 0.4, 0.6),
)  # fmt: skip
STUCK = curves(
    train_loss=(2.4, 2.3, 2.3), train_accuracy=(0.1, 0.1, 0.1),
    validation_loss=(2.4, 2.3, 2.3), validation_accuracy=(0.1, 0.1, 0.1),
)  # fmt: skip


@pytest.mark.parametrize(
    ("name", "changes"),
    [
        ("overfitting", {"history": RISING, "n_validation": 1000}),
        ("not-converged", {"history": FALLING}),
        ("nothing-learned", {"history": STUCK, "steps": 100}),
    ],
)
def test_symptoms_are_read_off_the_learning_curves(name, changes, healthy):
    measured = dataclasses.replace(healthy, **changes)
    if name == "nothing-learned":
        measured = dataclasses.replace(measured, after=measured.before)  # weights that have not moved
    assert name in [row.name for row in diagnose(measured)]
    assert diagnose(healthy) == ()


def test_a_cause_is_named_without_its_consequences(healthy):
    """Black images explain why nothing was learned; at most two diagnoses are named."""
    measured = dataclasses.replace(healthy, history=STUCK, after=healthy.before)
    assert [row.name for row in diagnose(measured)][-1] == "nothing-learned"
    first = dataclasses.replace(healthy.before.layers[0], input_std=0.001)
    before = dataclasses.replace(healthy.before, layers=(first, *healthy.before.layers[1:]))
    black = dataclasses.replace(measured, images=measured.images / 100, before=before)
    assert [row.name for row in diagnose(black)] == ["images-nearly-black"]


def test_a_rule_of_ones_own_is_one_decorated_function(healthy):
    with diagnosis_rules.temporary():

        @diagnosis("too-good", Stage.SYMPTOM)
        def too_good(measured):
            """An accuracy that is suspicious."""
            evidence = {"accuracy": measured.train_accuracy, "not a number": float("nan")}
            return Finding("it is too good", "look for leaks", evidence)

        (row,) = diagnose(healthy)
        assert row.name == "too-good" and set(row.evidence) == {"accuracy"}
    assert diagnose(healthy) == ()


def test_every_rule_is_listed_and_described():
    assert len(diagnosis_rules) >= 20
    assert all(rule.description for rule in diagnosis_rules.all().values())


@pytest.mark.parametrize("network", ["mlp", "cnn"])
def test_training_ends_in_the_same_bits_when_it_is_measured_after_each_epoch(network, data):
    config = trial_config(SMALL_CNN if network == "cnn" else NetworkConfig.of("mlp", hidden=[16]), epochs=3)
    trials = replicates_of(config, 0, 1)
    calls = []

    def watch(trial, net, history):
        calls.append(diagnose(measure_training(trial, net, history, data, 0)))

    spec = PopulationSpec(trials, stacked=network == "mlp", reseed_each_step=False, seed=0)
    state = torch.get_rng_state()
    watched = train_population(spec, data, on_member=watch)
    assert torch.equal(torch.get_rng_state(), state)
    plain = train_population(spec, data)
    assert len(calls) == 6
    assert all(
        same_bits(a.net, b.net) and a.history == b.history for a, b in zip(watched, plain, strict=True)
    )


def test_measuring_changes_nothing_of_the_network(data):
    """Weights, buffers, mode and gradients stay as they were."""
    result = train_one(trial_config(SMALL_CNN), data, stacked=False)
    net = result.net.train()
    held = {**dict(net.named_parameters()), **dict(net.named_buffers())}
    before = {name: value.clone() for name, value in held.items()}
    diagnose(measure(result, data))
    assert all(module.training for module in net.modules())
    assert all(torch.equal(value, before[name]) and value.grad is None for name, value in held.items())
    assert all(not module._forward_pre_hooks for module in net.modules())


def test_frozen_and_reused_layers_can_be_measured(data):
    result = train_one(trial_config(faulty(base="user")), data, stacked=False)
    result.net.net.conv1.requires_grad_(False)
    images, labels = data.train.all_images, data.train.labels
    probe = Probe(images, labels, torch.nn.functional.cross_entropy)
    layers = measure_network(result.net, probe, gradients=True).layers
    assert [layer.name for layer in layers] == ["conv1", "conv2", "fc1", "fc2"]
    assert layers[0].gradient_rms == 0 < layers[1].gradient_rms

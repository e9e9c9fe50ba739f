"""Diagnoses apply to the failure they are named after and to nothing else, and change nothing."""

import dataclasses
from typing import Any

import pytest
import torch
from synthetic_training import SMALL_CNN, train_one, trial_config

from inklab.networks.layers import Normalize, NormalizedModel
from inklab.records.components import NetworkConfig, NormalizeConfig
from inklab.training.diagnostics import ForwardTrace, diagnose, trace_forward

TWICE: dict[str, Any] = {"normalize": NormalizeConfig(std=255.0)}


def trace(net, data) -> ForwardTrace:
    return trace_forward(net, data.train.images(torch.arange(200)), data.train.labels)


def names(net, data) -> list[str]:
    return [diagnosis.name for diagnosis in diagnose(trace(net, data))]


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_inputs_scaled_twice_are_diagnosed(precision, data):
    result = train_one(trial_config(precision=precision, epochs=4, **TWICE), data)
    (diagnosis,) = diagnose(trace(result.net, data))
    assert diagnosis.name == "inputs-scaled-twice"
    assert diagnosis.evidence["spread_ratio"] == pytest.approx(1 / 255, rel=1e-3)
    assert diagnosis.evidence["label_entropy"] == pytest.approx(2.3026, abs=1e-3)
    assert diagnosis.evidence["loss"] == pytest.approx(diagnosis.evidence["label_entropy"], abs=0.05)
    assert diagnosis.evidence["largest_class_share"] >= 0.5
    assert "0.0039" in diagnosis.message and "255" in diagnosis.advice


HEALTHY = {
    "trained": trial_config(epochs=12, learning_rate=0.3, batch_size=16),
    "untrained": trial_config(learning_rate=1e-9),
    "normalized": trial_config(epochs=6, normalize=NormalizeConfig(mean=0.2, std=0.25)),
    "wider": trial_config(epochs=4, normalize=NormalizeConfig(std=4.0)),
    "learned-in-spite-of-it": trial_config(
        NetworkConfig.of("mlp", hidden=[]),
        epochs=15,
        batch_size=40,
        optimizer="adam",
        learning_rate=1.0,
        **TWICE,
    ),
    "cnn": trial_config(SMALL_CNN, epochs=2),
}


@pytest.mark.parametrize("case", HEALTHY)
def test_correct_inputs_have_no_diagnosis(case, data):
    result = train_one(HEALTHY[case], data, stacked=case != "cnn")
    assert result.divergence is None
    assert names(result.net, data) == []
    if case == "learned-in-spite-of-it":  # otherwise it would pass for another reason
        assert result.history.train_accuracy[-1] > 0.5


def test_constant_labels_are_not_taken_for_a_second_scaling(data):
    """One class for all is right where there is one class."""
    ones = dataclasses.replace(data.train, labels=torch.ones_like(data.train.labels))
    constant = dataclasses.replace(data, train=ones)
    assert names(train_one(trial_config(epochs=4), constant).net, constant) == []


def test_one_class_for_another_reason_has_no_diagnosis(data):
    """All weights zero: the loss of guessing and one class for all, but the inputs have their spread.

    Blank images have none, and say nothing about scaling.
    """
    net = train_one(trial_config(), data).net
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.zero_()
    assert names(net, data) == []
    squeezed = NormalizedModel(Normalize(std=255.0), net.net).eval()
    assert names(squeezed, data) == ["inputs-scaled-twice"]
    assert diagnose(trace_forward(net, torch.zeros(20, 1, 12, 12), torch.arange(20) % 10)) == ()


@pytest.mark.parametrize("reason", ["it has learned", "it predicts many classes", None])
def test_all_three_conditions_are_needed(reason):
    """Synthetic logits, inputs without spread: 60 of 100 images are of class 0, the others of 1 to 9."""
    images = torch.rand(100, 1, 4, 4, generator=torch.Generator().manual_seed(0))
    labels = torch.cat([torch.zeros(60, dtype=torch.int64), torch.arange(40) % 9 + 1])
    shares = torch.bincount(labels).double() / 100
    logits = shares.log().float().expand(100, 10).clone()  # guessing by the labels' frequencies
    if reason == "it has learned":
        logits = 9.0 * torch.nn.functional.one_hot(labels, 10)
    if reason == "it predicts many classes":
        labels, logits = torch.arange(100) % 10, 1e-3 * torch.eye(10).repeat(10, 1).roll(1, 0)
    diagnoses = diagnose(ForwardTrace(images / 255, images, labels, logits))
    assert bool(diagnoses) == (reason is None)


def test_diagnosing_changes_nothing(data):
    """Weights, buffers, mode and generators stay as they were, so training ends the same."""
    net = train_one(trial_config(SMALL_CNN), data, stacked=False).net.train()
    held = {**dict(net.named_parameters()), **dict(net.named_buffers())}
    before, state = {name: value.clone() for name, value in held.items()}, torch.get_rng_state()
    forward = trace(net, data)
    tensors = {field.name: getattr(forward, field.name).clone() for field in dataclasses.fields(forward)}
    diagnose(forward)
    assert torch.equal(torch.get_rng_state(), state) and all(module.training for module in net.modules())
    assert all(torch.equal(value, before[name]) and value.grad is None for name, value in held.items())
    assert all(parameter.requires_grad for parameter in net.parameters())
    assert all(torch.equal(getattr(forward, name), value) for name, value in tensors.items())

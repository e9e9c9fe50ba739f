"""Verdicts fire on the failure they are named after and on nothing else, and looking changes nothing."""

import dataclasses

import pytest
import torch
from synthetic_training import SMALL_CNN, settings, train_one

from inklab.networks.layers import Normalize, NormalizedModel
from inklab.training.diagnostics import ForwardTrace, diagnose, trace_forward

TWICE = {"spread": 255.0}


def seen(net, data) -> ForwardTrace:
    return trace_forward(net, data.train.images(torch.arange(200)), data.train.labels)


def names(net, data) -> list[str]:
    return [verdict.name for verdict in diagnose(seen(net, data))]


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_inputs_scaled_twice_are_found(precision, data):
    result = train_one(settings(precision=precision, epochs=4, **TWICE), data)
    (verdict,) = diagnose(seen(result.net, data))
    assert verdict.name == "inputs-scaled-twice"
    assert verdict.evidence["spread_ratio"] == pytest.approx(1 / 255, rel=1e-3)
    assert verdict.evidence["label_entropy"] == pytest.approx(2.3026, abs=1e-3)
    assert verdict.evidence["loss"] == pytest.approx(verdict.evidence["label_entropy"], abs=0.05)
    assert verdict.evidence["largest_class_share"] >= 0.5
    assert "0.0039" in verdict.finding and "255" in verdict.advice
    assert verdict.to_json()["evidence"] == verdict.evidence


HEALTHY = {
    "trained": settings(epochs=12, rate=0.3, batch=16),
    "untrained": settings(rate=1e-9),
    "standard-scaled": settings(epochs=6, mean=0.2, spread=0.25),
    "wider": settings(epochs=4, spread=4.0),
    "learned-in-spite-of-it": settings(
        {"name": "mlp", "hidden": []}, epochs=15, batch=40, optimiser="adam", rate=1.0, **TWICE
    ),
    "cnn": settings(SMALL_CNN, epochs=2),
}


@pytest.mark.parametrize("case", HEALTHY)
def test_nothing_is_said_of_sound_inputs(case, data):
    result = train_one(HEALTHY[case], data, lifted=case != "cnn")
    assert result.diverged is None
    assert names(result.net, data) == []


def test_the_net_that_learned_in_spite_of_it_did_learn(data):
    """Else the case above would pass for another reason."""
    result = train_one(HEALTHY["learned-in-spite-of-it"], data)
    assert result.history["train_accuracy"][-1] > 0.5


def test_constant_labels_are_not_taken_for_bad_scaling(data):
    """One class for all is right where there is one class."""
    ones = dataclasses.replace(data.train, labels=torch.ones_like(data.train.labels))
    constant = dataclasses.replace(data, train=ones)
    assert names(train_one(settings(epochs=4), constant).net, constant) == []


def test_a_net_that_says_one_class_for_another_reason_is_not_accused(data):
    """All weights zero: the loss of guessing and one class for all, but the inputs have their spread."""
    result = train_one(settings(), data)
    with torch.no_grad():
        for parameter in result.net.parameters():
            parameter.zero_()
    assert names(result.net, data) == []
    squeezed = NormalizedModel(Normalize(spread=255.0), result.net.net).eval()
    assert names(squeezed, data) == ["inputs-scaled-twice"]


@pytest.mark.parametrize("reason", ["it has learned", "it says many classes", None])
def test_each_of_the_three_signs_is_needed(reason):
    """Made up by hand, squeezed inputs each time: 60 of 100 images are of class 0, the others of 1 to 9."""
    images = torch.rand(100, 1, 4, 4, generator=torch.Generator().manual_seed(0))
    labels = torch.cat([torch.zeros(60, dtype=torch.int64), torch.arange(40) % 9 + 1])
    shares = torch.bincount(labels).double() / 100
    logits = shares.log().float().expand(100, 10).clone()  # guessing by the labels' frequencies
    if reason == "it has learned":
        logits = 9.0 * torch.nn.functional.one_hot(labels, 10)
    if reason == "it says many classes":
        labels, logits = torch.arange(100) % 10, 1e-3 * torch.eye(10).repeat(10, 1).roll(1, 0)
    found = diagnose(ForwardTrace(images / 255, images, labels, logits))
    assert bool(found) == (reason is None)


def test_blank_images_say_nothing_about_scaling(data):
    result = train_one(settings(), data)
    with torch.no_grad():
        for parameter in result.net.parameters():
            parameter.zero_()
    assert diagnose(trace_forward(result.net, torch.zeros(20, 1, 12, 12), torch.arange(20) % 10)) == []


def test_watched_is_unwatched(data):
    """Looking leaves weights, buffers, mode and generators as they were, so training ends the same."""
    result = train_one(settings(SMALL_CNN), data, lifted=False)
    net = result.net.train()
    before = {name: value.clone() for name, value in [*net.named_parameters(), *net.named_buffers()]}
    state = torch.get_rng_state()
    look = seen(net, data)
    held = {field.name: getattr(look, field.name).clone() for field in dataclasses.fields(look)}
    diagnose(look)
    assert torch.equal(torch.get_rng_state(), state)
    assert net.training and all(module.training for module in net.modules())
    for name, value in [*net.named_parameters(), *net.named_buffers()]:
        assert torch.equal(value, before[name]), name
        assert value.grad is None and (value.requires_grad or name not in dict(net.named_parameters()))
    for name, value in held.items():
        assert torch.equal(getattr(look, name), value), name

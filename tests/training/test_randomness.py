"""Randomness is a function of names: nothing here reads or moves a global generator."""

import ast
from pathlib import Path

import numpy as np
import pytest
import torch
from synthetic_training import (
    DROPOUT_MLP,
    RANGED,
    SMALL_AUTOENCODER,
    SMALL_CNN,
    same_bits,
    train_one,
    trial_config,
)

import inklab
from inklab.model import TrainedModel
from inklab.networks.network import build_network
from inklab.records.components import Preprocessing
from inklab.seeding import Seed
from inklab.training.preflight import preflight

HOME = Path(inklab.__file__).parent
SOURCES = {path: ast.parse(path.read_text(encoding="utf-8")) for path in sorted(HOME.rglob("*.py"))}
OWN_DROPOUT = """
from torch import nn

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        dense = (nn.Linear(144, 20), nn.ReLU(), nn.Dropout(0.3), nn.Linear(20, 10))
        self.layers = nn.Sequential(nn.Flatten(), *dense)

    def forward(self, images):
        return self.layers(images)
"""


def global_state() -> tuple[bytes, str]:
    return torch.get_rng_state().numpy().tobytes(), repr(np.random.get_state())  # noqa: NPY002


@pytest.fixture
def own_net(tmp_path) -> str:
    path = tmp_path / "own.py"
    path.write_text(OWN_DROPOUT, encoding="utf-8")
    return f"{path}:Net"


def test_training_neither_moves_nor_reads_the_global_generators(data, own_net):
    cases = [
        (trial_config(DROPOUT_MLP, corruption=RANGED), {}),
        (trial_config(SMALL_AUTOENCODER, objective="reconstruct", corruption=RANGED), {}),
        (trial_config(SMALL_CNN, corruption=RANGED), {"stacked": False}),
        (trial_config(own_net), {"stacked": False, "reseed_each_step": True}),
    ]
    for config, options in cases:
        torch.manual_seed(1)
        before = global_state()
        first = train_one(config, data, **options)
        assert global_state() == before, config.network
        torch.manual_seed(2)
        assert same_bits(first, train_one(config, data, **options)), config.network


def test_building_checking_and_loading_leave_the_global_generators_alone(data, own_net, tmp_path):
    before = global_state()
    build_network(SMALL_CNN, (1, 12, 12), 10, Seed(0))
    for network in (SMALL_CNN, own_net):
        preflight(trial_config(network), (1, 12, 12), 10)
    result = train_one(trial_config(), data)
    config, preprocessing = result.trial.config, Preprocessing.resize_only((1, 12, 12))
    model = TrainedModel.of(result.net, config.network, "classification", data.labels, preprocessing)
    model.save(tmp_path)
    TrainedModel.load(tmp_path).probabilities(torch.zeros(2, 1, 12, 12))
    assert global_state() == before


def calls_of(name: str) -> set[str]:
    """Files of the package in which something of that name is called or looked up, docstrings left out."""
    return {
        str(path.relative_to(HOME))
        for path, tree in SOURCES.items()
        for node in ast.walk(tree)
        if name in (getattr(node, "attr", ""), getattr(node, "id", ""))
    }


def test_only_the_seeding_sets_a_generator():
    assert calls_of("manual_seed") == calls_of("fork_rng") == {"seeding.py"}
    assert len(SOURCES) > 80  # the search did look at the package
    for name in ("seed_all", "set_rng_state", "manual_seed_all"):
        assert calls_of(name) == set(), name
    estimators = {"sklearn/estimators.py", "sklearn/hyperparameters.py"}  # scikit-learn's random_state
    assert calls_of("RandomState") <= estimators, "for a seed"

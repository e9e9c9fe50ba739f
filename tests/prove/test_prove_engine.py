"""Slow proofs on real digits at full size; `make prove`. The fast suite proves the same on small ones."""

import os
from itertools import islice

import numpy as np
import pytest
import torch
from torch import nn

from inklab.data.dataset import split
from inklab.data.sources import load
from inklab.networks.network import build_net
from inklab.seeding import Seed
from inklab.study.load import load_study, read_study
from inklab.study.resources import ExecutionOptions
from inklab.study.run_directory import RunDirectory
from inklab.study.runner import StudyRunner
from inklab.training.batches import BatchLoader, TrainingData, to_tensor_set
from inklab.training.objectives import objectives
from inklab.training.optimizers import HyperParams, make_optimizer
from inklab.training.population import single_member, weight_decay_names
from inklab.training.recipe import Recipe
from inklab.training.step import TrainStep, as_images
from inklab.training.trainer import PopulationJob, Trial, train_population

pytestmark = pytest.mark.prove
STEPS = 50
DENSE = {"name": "mlp", "hidden": [500, 300]}
NOISE = {"name": "salt_and_pepper", "strength": [0.4, 0.4]}


@pytest.fixture(scope="module")
def data() -> TrainingData:
    dataset = load("mnist" if os.environ.get("INKLAB_DATA_DIR") else "mnist-5k")
    parts = split(dataset, validation=500, seed=0)
    some = slice(0, 6_400)
    train = to_tensor_set(parts.train.pixels[some], parts.train.labels[some])
    rest = [to_tensor_set(part.pixels[:500], part.labels[:500]) for part in (parts.validation, parts.test)]
    return TrainingData(train, *rest, labels=dataset.labels)


def settings(model, precision, **recipe):
    told = Recipe(**recipe).model_dump(mode="json")
    return {"model": model, "scaling": {"mean": 0.0, "spread": 1.0}, "recipe": told, "precision": precision}


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_a_full_size_member_does_not_notice_its_company(data, precision):
    trials = [Trial(str(k), settings(DENSE, precision, epochs=1, l2=1e-5 * k), k) for k in range(16)]
    company = {"sixteen": trials, "eight": trials[:8], "alone": trials[3:4], "reversed": trials[5:1:-1]}
    for threads in (1, 2):
        torch.set_num_threads(threads)
        seen = []
        for group in company.values():
            trained = train_population(PopulationJob(group, lifted=True, random=False, seed=0), data)
            seen.append(next(each for each in trained if each.trial.id == "3"))
        torch.set_num_threads(1)
        for other in seen[1:]:
            assert other.history == seen[0].history
            for name, value in other.net.state_dict().items():
                assert torch.equal(value, seen[0].net.state_dict()[name]), (precision, threads, name)


CASES = {
    "dense": (DENSE, {"l2": 1e-4, "l2_on": ["hidden.*.weight"]}),
    "cnn": ({"name": "cnn", "dropout": 0.0}, {}),
    "denoiser": (
        {"name": "autoencoder"},
        {"objective": "reconstruct", "optimiser": "adam", "rate": 1e-3, "batch": 64, "corruption": NOISE},
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_the_first_losses_are_those_of_an_ordinary_loop(data, case):
    model, told = CASES[case]
    recipe = Recipe(epochs=1, **told)
    seed = Seed(0) / "replicate" / 0
    net = build_net(model, data.shape, 10, seed / "weights").to(memory_format=torch.channels_last)
    batches = list(islice(BatchLoader(data, recipe, [seed], lifted=False).epoch(0), STEPS))
    np.testing.assert_allclose(ours(net, recipe, batches), ordinary(net, recipe, batches), rtol=1e-4)


def ours(net, recipe, batches):
    optimiser, objective = make_optimizer(recipe.optimiser, recipe.momentum), objectives[recipe.objective]
    maker = TrainStep(net, objective, optimiser, weight_decay_names(net, recipe.l2_on), False, "fp32")
    step, state = maker.step(), maker.init_state(*single_member(net))
    losses = []
    for taken, batch in enumerate(batches):
        told = (recipe.rate, recipe.l2, recipe.momentum)
        hyper = HyperParams(*map(torch.tensor, told), torch.tensor(float(taken), dtype=torch.float64))
        state, loss = step(state, batch, {}, hyper)
        losses.append(float(loss))
    return losses


def ordinary(net: nn.Module, recipe, batches):
    adam = recipe.optimiser == "adam"
    optimiser = (
        torch.optim.Adam(net.parameters(), recipe.rate, eps=1e-7)
        if adam
        else torch.optim.SGD(net.parameters(), recipe.rate)
    )
    kernels = [
        p for name, p in net.named_parameters() if name.startswith("hidden") and name.endswith("weight")
    ]
    losses = []
    for batch in batches:
        optimiser.zero_grad()
        batch = as_images(batch)
        out = net(batch.shown)
        if recipe.objective == "classify":
            loss = nn.functional.cross_entropy(out, batch.labels)
        else:
            loss = nn.functional.binary_cross_entropy_with_logits(out, batch.images)
        losses.append(loss.item())
        penalty = sum((kernel**2).sum() for kernel in kernels) if recipe.l2 else 0.0
        (loss + recipe.l2 * penalty).backward()
        optimiser.step()
    return losses


def test_the_quick_study_does_not_depend_on_the_number_of_workers(tmp_path):
    """Two whole runs of `quick` on mnist-5k: about three minutes."""
    found = []
    for workers in (1, 2):
        spec, profile = read_study("digits", profile="quick", sets=["data.source=mnist-5k"])
        study = load_study(spec, profile)
        results = StudyRunner(
            study, RunDirectory(tmp_path / str(workers)), ExecutionOptions(workers=workers)
        ).run()
        found.append({key: value for key, value in results.items() if key not in ("seconds", "environment")})
    assert found[0] == found[1]

"""The best recipes' claims in small: two replicates each, fewer epochs, and what they must reach even so.

Scored on validation images, so that no proof is one more look at the test images. Bars lie some standard
deviations below what the cards in docs/recipes report for as many epochs.
"""

import sys
from pathlib import Path

import pytest

from inklab.errors import InklabError
from inklab.machine import fast_precision

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))  # the benchmarks are run from the checkout and never installed

pytestmark = pytest.mark.prove

SMALL = {  # recipe: (what is changed, the least mean accuracy of two replicates)
    "cnn-fast": ({"epochs": 2}, 0.9905),
    "mlp-best": ({"epochs": 10}, 0.979),
    "cnn-best": ({"epochs": 2}, 0.990),
}
DENOISED = 0.080  # nats a pixel at 40 % noise, after one epoch


@pytest.fixture(scope="module")
def mnist():
    from inklab.data.source import load

    if fast_precision() != "bf16":
        pytest.skip("claims are measured in bf16")
    try:
        return load("mnist")
    except InklabError as error:
        pytest.skip(f"needs MNIST: {error}")


@pytest.mark.usefixtures("mnist")
@pytest.mark.parametrize("recipe", SMALL)
def test_two_replicates_of_fewer_epochs_are_nearly_as_good(recipe):
    from benchmarks.accuracy import Level, opened, trained

    from inklab.evaluate.scores import classification_scores

    changes, least = SMALL[recipe]
    told, parts = opened(Level(least, recipe, changes), None)
    nets = [trained(told, replicate, parts.train) for replicate in range(2)]
    seen = parts.validation
    reached = [classification_scores(net, seen.pixels, seen.labels).accuracy for net in nets]
    assert sum(reached) / 2 >= least, f"{recipe} reached {reached}"


@pytest.mark.usefixtures("mnist")
def test_one_epoch_of_the_denoiser_is_nearly_as_good():
    import torch
    from benchmarks.accuracy import Level, opened, trained

    from inklab.evaluate.scores import reconstruction_scores
    from inklab.seeding import Seed
    from inklab.train.recipe import Recipe
    from inklab.train.shown import shown_for_scoring
    from inklab.train.tensors import as_part

    told, parts = opened(Level(0, "denoiser-best", {"epochs": 1}), None)
    net = trained(told, 0, parts.train)
    seen = as_part(parts.validation.pixels, parts.validation.labels)
    shown = shown_for_scoring(seen, Recipe(**told["recipe"]).scored_with, Seed(0) / "validation noise")
    reached = reconstruction_scores(net, shown, seen.images(torch.arange(len(seen.labels)))).bce
    assert reached <= DENOISED, f"denoiser-best reached {reached:.4f}"

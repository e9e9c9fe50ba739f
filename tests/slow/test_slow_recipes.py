"""The best recipes' claims in small: two replicates each, fewer epochs, and what they must reach even so.

Scored on validation images, so that no proof is one more look at the test images. Bars lie some standard
deviations below what the cards in docs/recipes report for as many epochs.
"""

import sys
from pathlib import Path

import pytest

from inklab.errors import InklabError
from inklab.hardware import preferred_dtype

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))  # the benchmarks are run from the checkout and never installed

pytestmark = pytest.mark.slow

SMALL = {  # recipe: (what is changed, the least mean accuracy of two replicates)
    "cnn-fast": ({"epochs": 2}, 0.9905),
    "mlp-best": ({"epochs": 10}, 0.985),
    "cnn-best": ({"epochs": 2}, 0.9925),
}
DENOISED = 0.080  # nats a pixel at 40 % noise, after one epoch


@pytest.fixture(scope="module")
def mnist():
    from inklab.data.sources import load_dataset

    if preferred_dtype() != "bf16":
        pytest.skip("claims are measured in bf16")
    try:
        return load_dataset("mnist")
    except InklabError as error:
        pytest.skip(f"needs MNIST: {error}")


def validation_metrics(recipe: str, changes: dict, replicates: int) -> list[dict[str, float]]:
    """Train replicates and evaluate each like a point of a learning curve, in fp32."""
    from benchmarks.accuracy import Level, open_level, train_replicate
    from benchmarks.training import CLASSES, NO_IMAGES

    from inklab.seeding import Seed
    from inklab.training.batches import TrainingData, to_tensor_set
    from inklab.training.evaluate import EpochMetrics
    from inklab.training.objectives import objectives

    config, split = open_level(Level(0, recipe, changes), None)
    train, validation = (to_tensor_set(part.pixels, part.labels) for part in (split.train, split.validation))
    data = TrainingData(train, validation, NO_IMAGES, CLASSES)
    metrics = EpochMetrics(objectives[config.recipe.objective], data, config.recipe, Seed(0), "fp32")
    return [metrics.after_epoch(train_replicate(config, number, split.train)) for number in range(replicates)]


@pytest.mark.usefixtures("mnist")
@pytest.mark.parametrize("recipe", SMALL)
def test_two_replicates_of_fewer_epochs_are_nearly_as_good(recipe):
    changes, least = SMALL[recipe]
    reached = [point["validation_accuracy"] for point in validation_metrics(recipe, changes, 2)]
    assert sum(reached) / 2 >= least, f"{recipe} reached {reached}"


@pytest.mark.usefixtures("mnist")
def test_one_epoch_of_the_denoiser_is_nearly_as_good():
    (point,) = validation_metrics("denoiser-best", {"epochs": 1}, 1)
    reached = point["validation_loss"]
    assert reached <= DENOISED, f"denoiser-best reached {reached:.4f}"

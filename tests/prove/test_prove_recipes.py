"""The best recipes' claims in small: two replicates each, fewer epochs, and what they must reach even so.

Bars lie some standard deviations below what the cards in docs/recipes report for as many epochs.
"""

import sys
from pathlib import Path

import pytest

from inklab.errors import InklabError
from inklab.machine import fast_precision

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))  # the benchmarks are run from the checkout and never installed

pytestmark = pytest.mark.prove

SMALL = {  # recipe: (what is changed, the least mean test accuracy of two replicates)
    "cnn-fast": ({"epochs": 2}, 0.9905),
    "mlp-best": ({"epochs": 10}, 0.979),
}


@pytest.fixture(scope="module")
def mnist():
    from inklab.data.source import load

    try:
        return load("mnist")
    except InklabError as error:
        pytest.skip(f"needs MNIST: {error}")


@pytest.mark.parametrize("recipe", SMALL)
def test_two_replicates_of_fewer_epochs_are_nearly_as_good(recipe, mnist):
    from benchmarks.accuracy import Level, measured

    if fast_precision() != "bf16":
        pytest.skip("claims are measured in bf16")
    changes, least = SMALL[recipe]
    found = measured(Level(least, recipe, changes), 2, None)
    mean = sum(found["test_accuracy"]) / 2
    assert mean >= least, f"{recipe} reached {found['test_accuracy']}"

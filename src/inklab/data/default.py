"""What a run uses when nobody said what."""

from dataclasses import replace

from inklab.data.dataset import Dataset
from inklab.data.mnist import INSTEAD
from inklab.data.source import load
from inklab.errors import Unavailable


def load_default() -> Dataset:
    """MNIST where it can be had, else mnist-5k with a note that says why.

    Raises:
        CorruptFile: the user's own MNIST files are damaged; going on without them would hide that.
    """
    try:
        return load("mnist")
    except Unavailable as error:
        why = str(error).removesuffix(INSTEAD)
        return replace(load("mnist-5k"), note=f"This is mnist-5k (5,000 digits), because {why}")

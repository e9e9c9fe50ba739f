"""What a run uses when nobody said what."""

from dataclasses import replace

from inklab.data.dataset import Dataset
from inklab.data.source import load
from inklab.errors import Unavailable

HELP = "With a network, inklab data get mnist brings them; or put the four files into $INKLAB_DATA_DIR/mnist."


def load_default() -> Dataset:
    """MNIST where it can be had, else mnist-5k with a note that says why.

    Raises:
        CorruptFile: the user's own MNIST files are damaged; going on without them would hide that.
    """
    try:
        return load("mnist")
    except Unavailable as error:
        note = f"These are 5,000 digits of MNIST (mnist-5k), not all 70,000: {error.reason}. {HELP}"
        return replace(load("mnist-5k"), note=note)

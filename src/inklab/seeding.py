"""Randomness as a function of names, never a state.

Every draw comes from a key or a generator derived from a path, `Seed(7) / "replicate" / 3 / "order" / epoch`.
So a new use of randomness never changes another one, replicate k has the same streams in every setting, and a
resumed run needs counters only. This is the one file that may call `torch.manual_seed`.
"""

import hashlib
import json
import random
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import torch

    from inklab.counters import Draws


@dataclass(frozen=True)
class Seed:
    """A node in a tree of random streams.

    Example:
        >>> order = Seed(7) / "order" / 3
        >>> order.rng().integers(100) == order.rng().integers(100)
        np.True_
        >>> order.number == (Seed(7) / "order" / 4).number
        False
    """

    root: int
    path: tuple[str, ...] = ()

    def __truediv__(self, name: object) -> "Seed":
        return Seed(self.root, (*self.path, str(name)))

    @property
    def number(self) -> int:
        """An integer in [0, 2**63), the same on every machine."""
        text = json.dumps([self.root, *self.path])
        return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1

    @property
    def key(self) -> tuple[int, int]:
        """The low 62 bits of `number` in two halves, each in [0, 2**31): the key of counter-based draws."""
        return self.number & 0x7FFFFFFF, (self.number >> 31) & 0x7FFFFFFF

    def draws(self, first: int = 0, device: "torch.device | str" = "cpu") -> "Draws":
        """Counter-based draws, which are the same on every device.

        Args:
            first: the number of the first image that is drawn for.
            device: where the numbers are to lie.
        """
        import torch

        from inklab.counters import Draws

        return Draws(torch.tensor(self.key, dtype=torch.int32, device=device), first)

    def rng(self) -> np.random.Generator:
        """A new NumPy generator."""
        return np.random.default_rng(self.number)

    def generator(self) -> "torch.Generator":
        """A new torch generator on the CPU: its draws are the same for every device."""
        import torch

        return torch.Generator().manual_seed(self.number)

    @contextmanager
    def as_global(self) -> Iterator[None]:
        """Seed the global generators of torch, NumPy and Python, and restore their states afterwards.

        For third-party code; inklab itself never draws from them.
        """
        import torch

        numpy_state, python_state = np.random.get_state(), random.getstate()  # noqa: NPY002
        try:
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(self.number)
                np.random.seed(self.number % 2**32)  # noqa: NPY002
                random.seed(self.number)
                yield
        finally:
            np.random.set_state(numpy_state)  # noqa: NPY002
            random.setstate(python_state)


def global_states() -> list[object]:
    """The states of the global generators; they change when third-party code draws from them."""
    import torch

    numpy_state = np.random.get_state(legacy=True)  # noqa: NPY002
    return [torch.get_rng_state().tolist(), [str(part) for part in numpy_state], random.getstate()]

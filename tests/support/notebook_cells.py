"""Cells of a notebook, run as IPython runs them: with a source that Python can look up."""

import itertools
import linecache
from typing import Any

_numbers = itertools.count()


def run_cell(
    source: str, namespace: dict[str, Any] | None = None, *, has_source: bool = True
) -> dict[str, Any]:
    """Run a cell; the names of the notebook afterwards."""
    namespace = {"__name__": "__main__"} if namespace is None else namespace
    name = f"<ipython-input-{next(_numbers)}>"
    if has_source:
        linecache.cache[name] = (len(source), None, source.splitlines(keepends=True), name)
    exec(compile(source, name, "exec"), namespace)
    return namespace


NETWORK = """
import torch
from torch import nn

SCALE = 1.0

class Body(nn.Module):
    def __init__(self, n_pixels, width):
        super().__init__()
        self.dense = nn.Linear(n_pixels, width)

    def forward(self, images):
        return torch.relu(SCALE * self.dense(images.flatten(1)))

class Net(nn.Module):
    def __init__(self, shape, classes, width=8):
        super().__init__()
        self.body = Body(shape[0] * shape[1] * shape[2], width)
        self.out = nn.Linear(width, classes)

    def forward(self, images):
        return self.out(self.body(images))
"""
"""A cell with a network that refers to another class and a number of the same cell."""

"""inklab as its study trains: a worker process a core, one thread each, each with a population of its own."""

from typing import Any

import numpy as np
import torch

import inklab
from benchmarks.protocol import Json, serve
from benchmarks.sidebyside import Workers
from benchmarks.training import worker
from benchmarks.works import WORKS, smaller


class OursPeer:
    """Keeps its workers; each unit starts from new networks, their building included."""

    def prepare(self, request: Json) -> Json:
        """Start the workers, which warm up on other replicates with every batch shape."""
        self.work = smaller(WORKS[request["work"]], request["images"], request["members"])
        self.count = request["workers"]
        self.workers = Workers(self.count, worker, request)
        versions = {"inklab": inklab.__version__, "torch": torch.__version__, "numpy": np.__version__}
        members = f"{self.work.members} members" if self.work.members > 1 else "one network"
        does = f"{self.count} workers, one thread each, {members} in each, {request['precision']}"
        return {"versions": versions, "does": does}

    def measure(self) -> Json:
        """One unit a worker, all side by side."""
        seconds, losses = self.workers.unit()
        images = self.count * self.work.members * self.work.images
        loss: Any = np.mean(losses)
        return {"seconds": seconds, "images": images, "loss": float(loss)}


if __name__ == "__main__":
    serve(OursPeer())

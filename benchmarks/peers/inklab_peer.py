"""inklab as its study trains: one worker process per core, one thread and one population each."""

import numpy as np
import torch

import inklab
from benchmarks.parallel import Workers
from benchmarks.peer_protocol import PeerInfo, PrepareRequest, UnitTiming, serve
from benchmarks.training import training_worker
from benchmarks.workloads import WORKLOADS


class InklabPeer:
    """Keeps its workers; each unit starts from new networks, and building them is timed."""

    def prepare(self, request: PrepareRequest) -> PeerInfo:
        """Start the workers, which warm up on other replicates with every batch shape."""
        self.workload = WORKLOADS[request.workload].reduced(request.images, request.members)
        self.count = request.workers
        self.workers = Workers(self.count, training_worker, request)
        versions = {"inklab": inklab.__version__, "torch": torch.__version__, "numpy": np.__version__}
        members = f"{self.workload.members} members" if self.workload.members > 1 else "one network"
        description = f"{self.count} workers, one thread each, {members} in each, {request.precision}"
        return PeerInfo(versions, description)

    def measure(self) -> UnitTiming:
        """One unit per worker, in parallel."""
        seconds, losses = self.workers.run_unit()
        return UnitTiming(
            seconds, self.count * self.workload.members * self.workload.images, float(np.mean(losses))
        )


if __name__ == "__main__":
    serve(InklabPeer())

"""scikit-learn's MLPClassifier: `fit` with max_iter=1 and warm_start, which continues its training.

Its penalty differs: gradients get `alpha / batch * w` on *all* kernels, the output's too, so alpha is
`2 * l2 * batch` and the output's kernel has L2 as well. It also draws its biases instead of starting at zero.
"""

import time
import warnings

import numpy as np
import sklearn
import threadpoolctl
from sklearn.exceptions import ConvergenceWarning
from sklearn.neural_network import MLPClassifier

from benchmarks.peer_protocol import PeerInfo, PrepareRequest, UnitTiming, serve
from benchmarks.peers.arrays import random_images, read_images, read_labels
from benchmarks.workloads import HIDDEN, WORKLOADS, Workload


def build_classifier(workload: Workload) -> MLPClassifier:
    """The l2-sweep's network with plain gradient descent, one epoch per call of `fit`."""
    return MLPClassifier(
        HIDDEN, activation="relu", solver="sgd", alpha=2 * workload.l2 * workload.batch_size,
        batch_size=workload.batch_size, learning_rate="constant",
        learning_rate_init=workload.learning_rate, momentum=0.0, nesterovs_momentum=False,
        max_iter=1, warm_start=True, random_state=0,
    )  # fmt: skip


class SklearnPeer:
    """Keeps one classifier and continues its training."""

    def prepare(self, request: PrepareRequest) -> PeerInfo:
        """Warm up with another classifier, since nothing is compiled."""
        warnings.simplefilter("ignore", ConvergenceWarning)  # one epoch per call is intended
        self.workload = WORKLOADS[request.workload].reduced(request.images)
        count = self.workload.images
        self.images = read_images(request.data, "clean", count).reshape(count, 784)
        self.labels = read_labels(request.data, count)
        self.classifier = build_classifier(self.workload)
        build_classifier(self.workload).fit(*random_images(max(self.workload.warm_up_images, 500), 784))
        blas = [pool for pool in threadpoolctl.threadpool_info() if pool["user_api"] == "blas"]
        kernels = sorted({f"{pool['internal_api']} {pool.get('architecture')}" for pool in blas})
        threads = max((pool["num_threads"] for pool in blas), default=1)
        versions = {"scikit-learn": sklearn.__version__, "numpy": np.__version__, "blas": ", ".join(kernels)}
        return PeerInfo(versions, f"MLPClassifier.fit, fp32, {threads} threads")

    def measure(self) -> UnitTiming:
        """One epoch over the unit's images."""
        start = time.perf_counter()
        self.classifier.fit(self.images, self.labels)
        seconds = time.perf_counter() - start
        return UnitTiming(seconds, self.workload.images, float(self.classifier.loss_))


if __name__ == "__main__":
    serve(SklearnPeer())

"""scikit-learn's MLPClassifier: `fit` with max_iter=1 and warm_start, which goes on where it was.

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

from benchmarks.peers.images import labels, other, scaled
from benchmarks.protocol import Json, serve
from benchmarks.works import HIDDEN, WORKS, Work, smaller, warm_up_images


def build(work: Work) -> MLPClassifier:
    """The l2-sweep's network with plain gradient descent, one epoch a call of `fit`."""
    return MLPClassifier(
        HIDDEN, activation="relu", solver="sgd", alpha=2 * work.l2 * work.batch, batch_size=work.batch,
        learning_rate="constant", learning_rate_init=work.rate, momentum=0.0, nesterovs_momentum=False,
        max_iter=1, warm_start=True, random_state=0,
    )  # fmt: skip


class SklearnPeer:
    """Keeps one classifier and goes on training it."""

    def prepare(self, request: Json) -> Json:
        """Warm up with a classifier of its own, since nothing is compiled."""
        warnings.simplefilter("ignore", ConvergenceWarning)  # one epoch a call is what is wanted
        self.work = smaller(WORKS[request["work"]], request["images"], None)
        count = self.work.images
        self.images = scaled(request["data"], "clean", count).reshape(count, 784)
        self.labels = labels(request["data"], count)
        self.net = build(self.work)
        warm, classes = other(max(warm_up_images(self.work), 500), 784)
        build(self.work).fit(warm, classes)
        blas = [pool for pool in threadpoolctl.threadpool_info() if pool["user_api"] == "blas"]
        kernels = sorted({f"{pool['internal_api']} {pool.get('architecture')}" for pool in blas})
        threads = max((pool["num_threads"] for pool in blas), default=1)
        versions = {"scikit-learn": sklearn.__version__, "numpy": np.__version__, "blas": ", ".join(kernels)}
        return {"versions": versions, "does": f"MLPClassifier.fit, fp32, {threads} threads"}

    def measure(self) -> Json:
        """One epoch over the unit's images."""
        began = time.perf_counter()
        self.net.fit(self.images, self.labels)
        seconds = time.perf_counter() - began
        return {"seconds": seconds, "images": self.work.images, "loss": float(self.net.loss_)}


if __name__ == "__main__":
    serve(SklearnPeer())

"""The Ray executor: the contract of executors, and equality with one process. It starts real clusters."""

import pytest

from inklab.study.executor import ExecutorOptions, executors
from inklab.testing import ExecutorConformance

ray = pytest.importorskip("ray")

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def one_node():
    """A Ray on this machine that all executors of a class share: starting one takes ten seconds."""
    ray.init(
        address="local", num_cpus=2, include_dashboard=False, log_to_driver=False, configure_logging=False,
        object_store_memory=128 << 20, _node_ip_address="127.0.0.1",
    )  # fmt: skip
    yield
    ray.shutdown()


@pytest.mark.usefixtures("one_node")
class TestRayExecutor(ExecutorConformance):
    def make_executor(self, context, work_dir, workers):
        return executors["ray"].configure(ExecutorOptions(workers))(context, work_dir, workers)

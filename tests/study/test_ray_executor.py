"""The Ray executor: the contract of executors, and equality with one process. It starts real clusters."""

from dataclasses import replace

import pytest
import toy_run

from inklab.errors import ConfigError, CorruptFileError
from inklab.records.execution import DeviceChoice
from inklab.study.executor import ExecutorOptions, executors
from inklab.study.executors.node_facts import NodeFacts
from inklab.study.executors.ray_worker import unpack_files
from inklab.study.jobs import EpochEnded, Lost, Retried, Warned
from inklab.testing import ExecutorConformance, training_job, write_context, write_networks
from inklab.training.checkpoint_files import PackedCheckpoint

ray = pytest.importorskip("ray")

STUDY = """
name = "cluster"
seed = 3

[experiments.short]
network = "{nets}:Slow"
recipe = {{ base = "sgd", epochs = 50, batch_size = 16 }}
replicates = 1

[experiments.long]
network = "{nets}:Slow"
recipe = {{ base = "sgd", epochs = 54, batch_size = 16 }}
replicates = 1

[experiments.robustness]
kind = "robustness"
strengths = [0, 0.3]
images = 60
pipelines = ["short"]
baseline = "short"
"""
"""Two trainings side by side, slow until a node is lost: both have begun by then, on any machine."""


PRIORITY = {"worker_niceness": 0}
"""By default Ray's workers yield to all others; beside other tests they would hardly run."""

TALKATIVE_NET = """
import os, sys
from torch import nn
from layers import WIDTH

class Talks(nn.Sequential):
    def __init__(self, shape, classes):
        super().__init__(nn.Flatten(), nn.Linear(WIDTH, classes))

    def forward(self, images):
        print(WIDTH, "last words of", __file__, file=sys.stderr, flush=True)
        os.kill(os.getpid(), 9)
"""


@pytest.fixture(scope="class")
def one_node():
    """A Ray on this machine that all executors of a class share: starting one takes ten seconds.

    It ends with the class: an executor takes the cluster that its process is connected to.
    """
    ray.init(
        address="local", num_cpus=2, include_dashboard=False, log_to_driver=False, configure_logging=False,
        object_store_memory=128 << 20, _node_ip_address="127.0.0.1", _system_config=PRIORITY,
    )  # fmt: skip
    yield
    ray.shutdown()


@pytest.mark.integration
@pytest.mark.usefixtures("one_node")
class TestRayExecutor(ExecutorConformance):
    def make_executor(self, context, work_dir, workers):
        return executors["ray"].configure(ExecutorOptions(workers))(context, work_dir, workers)

    def test_the_user_s_files_travel_and_last_words_come_back(self, tmp_path, monkeypatch):
        """Nodes start elsewhere, so a path that is relative to the driver's directory is no file there."""
        (tmp_path / "net.py").write_text(TALKATIVE_NET, encoding="utf-8")
        (tmp_path / "layers.py").write_text("WIDTH = 12 * 12\n", encoding="utf-8")
        context = write_context(tmp_path / "run")
        monkeypatch.chdir(tmp_path)
        events = []
        with self.make_executor(context, tmp_path / "work", 1) as executor:
            executor.submit(training_job("Talks", "net.py:Talks"))
            for event in executor.events():
                events.append(event)
        warnings = [event.message for event in events if isinstance(event, Warned)]
        assert isinstance(events[-1], Lost) and "killed, or it crashed, 2 times" in events[-1].reason
        assert sum("144 last words of" in message for message in warnings) == 2
        assert not any(str(tmp_path) in message for message in warnings), "it ran from the copy"


@pytest.fixture
def cluster():
    """A head without processors and two nodes with one each, as processes of this machine."""
    from ray.cluster_utils import Cluster

    memory = {"object_store_memory": 128 << 20}
    checks = {"health_check_period_ms": 1000, "health_check_timeout_ms": 2000}  # a lost node is missed sooner
    head = {"num_cpus": 0, "include_dashboard": False, "_system_config": {**PRIORITY, **checks}, **memory}
    cluster = Cluster(initialize_head=True, head_node_args=head)
    yield cluster, [cluster.add_node(num_cpus=1, **memory) for _ in range(2)]
    cluster.shutdown()


@pytest.mark.integration
def test_a_cluster_that_loses_a_node_gives_the_numbers_of_one_process(cluster, tmp_path):
    """Both nodes train when a node is lost; the other node continues its training."""
    ray_cluster, nodes = cluster
    nets, events = write_networks(tmp_path), []
    path = toy_run.write_study(toy_run.home() / "cluster.toml", STUDY.format(nets=nets))
    executor = executors["ray"].configure(ExecutorOptions(address=ray_cluster.address))

    def lose_a_node(event):
        events.append(event)
        training = {event.job.name for event in events if isinstance(event, EpochEnded)}
        if len(training) == 2 and len(nodes) == 2:
            ray_cluster.remove_node(nodes.pop(), allow_graceful=False)
            (tmp_path / "healed").touch()

    toy_run.run(tmp_path / "cluster", path=path, on_event=lose_a_node, executor=executor)
    toy_run.run(tmp_path / "alone", path=path)
    assert len(nodes) == 1 and [event for event in events if isinstance(event, Retried)]
    assert toy_run.numbers(tmp_path / "cluster") == toy_run.numbers(tmp_path / "alone")
    assert toy_run.weights(tmp_path / "cluster") == toy_run.weights(tmp_path / "alone")


def test_a_run_on_a_gpu_is_refused_before_anything_starts(tmp_path):
    context = replace(write_context(tmp_path), device=DeviceChoice(name="cuda:0", hardware="A GPU"))
    with pytest.raises(ConfigError, match="processors only, not on .cuda:0.; add --device cpu"):
        with executors["ray"].configure(ExecutorOptions())(context, tmp_path / "work", 1):
            pass


class TestWhatWorkersSend:
    @pytest.mark.parametrize("name", ["../a", "/etc/a", "trials/x/../../a", "trials/y/a", ""])
    def test_files_outside_of_the_result_are_refused(self, tmp_path, name):
        with pytest.raises(CorruptFileError, match="not part of its result"):
            unpack_files(((name, b""),), tmp_path / "attempt", ("trials/x/",))
        assert not (tmp_path / "a").exists()

    @pytest.mark.parametrize("path", ["../000001-000000001", "/tmp/000001-000000001", ""])
    def test_checkpoints_outside_of_the_attempt_are_refused(self, tmp_path, path):
        with pytest.raises(CorruptFileError, match="outside of its attempt"):
            PackedCheckpoint(path, ()).write(tmp_path)

    def test_a_node_that_differs_is_described(self):
        here = NodeFacts("1", 4, "2.13.0", "A", "bf16", "f")
        there = NodeFacts("1", 4, "2.12.0", "B", "fp32", "g")
        assert there.differences(here) == (
            "torch 2.12.0, not 2.13.0, processor B, not A, its processor has no bf16, instructions g, not f"
        )
        assert here.differences(here) == ""

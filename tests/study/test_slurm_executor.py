"""The SLURM executor on submitit's emulation: processes of this machine, which SLURM's signals reach."""

import os
import signal
import subprocess
from dataclasses import replace

import pytest
import toy_run
from inline_executor import InlineExecutor

from inklab.errors import ConfigError, RunError, UnknownNameError
from inklab.study.executor import ExecutorOptions, executors
from inklab.study.executors.node_facts import NodeFacts, log_tail
from inklab.study.executors.shared_queue import SharedQueue
from inklab.study.executors.slurm_executor import SlurmSettings, parse_minutes
from inklab.study.jobs import EpochEnded, Retried, Started
from inklab.testing import (
    ExecutorFaults,
    ExecutorJobs,
    ExecutorUnderTest,
    kinds,
    outcome_of,
    training_job,
    write_context,
    write_networks,
)

pytest.importorskip("submitit")

STUDY = """
name = "shared"
seed = 3

[experiments.net]
network = { name = "mlp", hidden = [16] }
recipe = { base = "sgd", epochs = 2, batch_size = 32 }
replicates = 2

[experiments.robustness]
kind = "robustness"
strengths = [0, 0.3]
images = 60
pipelines = ["net"]
baseline = "net"
"""


def make_slurm(context, work_dir, workers):
    options = ExecutorOptions(workers, settings={"cluster": "local"})
    return executors["slurm"].configure(options)(context, work_dir, workers)


@pytest.mark.slow
class TestSlurmExecutorJobs(ExecutorJobs):
    def make_executor(self, context, work_dir, workers):
        return make_slurm(context, work_dir, workers)


@pytest.mark.slow
class TestSlurmExecutorFaults(ExecutorFaults):
    def make_executor(self, context, work_dir, workers):
        return make_slurm(context, work_dir, workers)


@pytest.mark.integration
def test_the_numbers_are_those_of_one_process(tmp_path):
    path = toy_run.write_study(toy_run.home() / "shared.toml", STUDY)
    toy_run.run(tmp_path / "slurm", path=path, executor=make_slurm)
    toy_run.run(tmp_path / "alone", path=path)
    assert toy_run.numbers(tmp_path / "slurm") == toy_run.numbers(tmp_path / "alone")
    assert toy_run.weights(tmp_path / "slurm") == toy_run.weights(tmp_path / "alone")
    assert not (tmp_path / "slurm" / "work").exists(), "no queue is left"


@pytest.mark.integration
def test_a_worker_that_is_queued_again_continues_from_checkpoints(tmp_path):
    """After SLURM's warning before the end of the time, and after a death without a warning."""
    nets, events = write_networks(tmp_path), []
    job, work = training_job("Slow", f"{nets}:Slow", epochs=40), tmp_path / "work"
    context = write_context(tmp_path / "run")
    with make_slurm(context, work, 1) as executor:
        executor.submit(job)
        for event in executor.events():
            events.append(event)
            deaths = kinds(events).count(Retried)
            if isinstance(event, EpochEnded) and isinstance(events[-2], Started) and deaths < 2:
                os.kill(find_worker(work), [signal.SIGUSR2, signal.SIGKILL][deaths])
            elif deaths == 2:
                (tmp_path / "healed").touch()
    retried = [event.reason for event in events if isinstance(event, Retried)]
    assert len(retried) == 2 and "stopped by SLURM" in retried[0] and "ended" in retried[1]
    first, second, third = sessions(events)
    assert first[0] == 1 and second[0] > first[-1] and third[-1] == 40
    whole = Undisturbed().run(context, tmp_path / "other", job)
    assert outcome_of(events[-1]).weights_sha256 == outcome_of(whole[-1]).weights_sha256


@pytest.mark.slow
def test_a_run_whose_nodes_all_differ_ends_with_the_reason(tmp_path):
    """Its workers find that another has begun to compute on another processor."""
    work = tmp_path / "work"
    with make_slurm(write_context(tmp_path / "run"), work, 1) as executor:
        (queue,) = map(SharedQueue, work.iterdir())
        queue.agree(replace(NodeFacts.current(), processor="Another"))
        executor.submit(training_job("good", "mlp"))
        with pytest.raises(RunError, match="no worker can compute .* processor .*, not Another"):
            list(executor.events())


@pytest.mark.slow
def test_workers_that_can_t_start_end_the_run_with_their_last_words(tmp_path, monkeypatch):
    (tmp_path / "submitit.py").write_text("raise ImportError('libfoo.so.1 is missing')", encoding="utf-8")
    with make_slurm(write_context(tmp_path / "run"), tmp_path / "work", 1) as executor:
        monkeypatch.setenv("PYTHONPATH", str(tmp_path))
        executor.submit(training_job("good", "mlp"))
        with pytest.raises(RunError, match="3 workers ended before they began"):
            list(executor.events())


class Undisturbed(ExecutorUnderTest):
    def make_executor(self, context, work_dir, workers):
        return InlineExecutor(context, work_dir, workers)


def find_worker(work_dir):
    """The process of submitit for the worker whose queue lies below a directory."""
    command = ["ps", "-ww", "-eo", "pid,args"]
    lines = subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()
    (worker,) = (line for line in lines if "submitit.core._submit" in line and str(work_dir) in line)
    return int(worker.split()[0])


def sessions(events):
    """The epochs that ended between two starts."""
    parts = []
    for event in events:
        if isinstance(event, Started):
            parts.append([])
        elif isinstance(event, EpochEnded):
            parts[-1].append(event.epoch)
    return parts


class TestSettings:
    @pytest.mark.parametrize("text", ["", "0", "soon", "1:2:3:4", "-5", "00:00:00"])
    def test_a_time_that_is_none_is_refused(self, text):
        with pytest.raises(ConfigError, match="--slurm time=.*4:00:00"):
            parse_minutes(text)

    def test_an_unknown_one_is_answered_with_the_nearest(self):
        with pytest.raises(UnknownNameError, match="Did you mean 'partition'"):
            SlurmSettings.of({"partitoin": "short"})

    @pytest.mark.parametrize(
        ("key", "value"), [("cluster", "pbs"), ("cpus-per-task", "0"), ("cpus-per-task", "all")]
    )
    def test_a_wrong_value_is_refused(self, key, value):
        with pytest.raises(ConfigError, match=f"--slurm {key}={value}"):
            SlurmSettings.of({key: value})

    def test_they_become_options_of_sbatch(self):
        from submitit.slurm.slurm import SlurmExecutor, _make_sbatch_string

        settings = SlurmSettings.of({
            "partition": "short", "time": "2:30:00", "mem": "6G", "cpus-per-task": "4", "account": "lab",
        })  # fmt: skip
        parameters = settings.parameters(threads=2)
        generic = {key: parameters.pop(key) for key in ("name", "timeout_min", "stderr_to_stdout")}
        own = {key.removeprefix("slurm_"): value for key, value in parameters.items()}
        converted = {
            {"name": "job_name", "timeout_min": "time"}.get(key, key): value for key, value in generic.items()
        }
        script = _make_sbatch_string(command="x", folder="/tmp", **converted, **own)
        for line in ("partition=short", "time=150", "mem=6G", "cpus-per-task=4", "account=lab"):
            assert f"#SBATCH --{line}\n" in script
        assert settings.processes(threads=2) == 2 and SlurmExecutor.affinity() in (-1, 2)

    def test_the_number_of_workers_is_required(self):
        with pytest.raises(ConfigError, match="--workers"):
            executors["slurm"].configure(ExecutorOptions())

    @pytest.mark.parametrize("name", ["local", "ray"])
    def test_other_executors_refuse_them(self, name):
        with pytest.raises(ConfigError, match="--executor slurm"):
            executors[name].configure(ExecutorOptions(settings={"partition": "short"}))


def test_without_slurm_the_run_ends_in_one_line(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    factory = executors["slurm"].configure(ExecutorOptions(1))
    with pytest.raises(RunError, match="SLURM can't be used here"):
        with factory(write_context(tmp_path / "run"), tmp_path / "work", 1):
            pass
    assert not list((tmp_path / "work").iterdir())


class TestSharedQueue:
    def test_every_job_is_claimed_once_in_its_order(self, tmp_path):
        queue = SharedQueue.create(tmp_path / "work")
        jobs = [training_job(name, "mlp") for name in "abc"]
        for number, job in enumerate(jobs):
            queue.offer(number, job)
        workers = ["0-a", "1-b", "0-a", "1-b"]
        claimed = [queue.claim(worker) for worker in workers]
        assert claimed == [(0, jobs[0]), (1, jobs[1]), (2, jobs[2]), None]
        assert sorted(queue.claims()) == [(0, "0-a"), (1, "1-b"), (2, "0-a")]
        queue.release(1, "1-b")
        assert [number for number, _ in queue.claims()] == [0, 2]

    def test_messages_of_a_worker_come_in_their_order_and_once(self, tmp_path):
        queue = SharedQueue.create(tmp_path)
        for count in range(12):
            queue.send("0-a", count, count)
        assert queue.receive() == [("0-a", count) for count in range(12)]
        assert queue.receive() == []

    def test_nobody_else_can_write_to_it_and_a_new_session_ends_the_old_one(self, tmp_path):
        """Its files are pickles."""
        old = SharedQueue.create(tmp_path)
        assert old.path.stat().st_mode & 0o077 == 0 and not old.has_stopped
        new = SharedQueue.create(tmp_path)
        assert old.has_stopped and not new.has_stopped and old.claim("0-a") is None
        new.stop()
        assert new.has_stopped

    def test_the_first_worker_decides_which_numbers_are_computed(self, tmp_path):
        queue = SharedQueue.create(tmp_path)
        first = NodeFacts("1", 4, "2.13.0", "A", "bf16", "f")
        assert queue.agree(first) == queue.agree(NodeFacts("1", 4, "2.13.0", "B", "fp32", "g")) == first


def test_the_end_of_a_log_is_one_line(tmp_path):
    log = tmp_path / "log"
    log.write_text(
        "x" * 10_000 + "".join(f"\nline {number}\n:job_id:1" for number in range(9)), encoding="utf-8"
    )
    assert log_tail(str(log)) == "line 4 | line 5 | line 6 | line 7 | line 8"
    assert log_tail(str(tmp_path / "none")) == ""

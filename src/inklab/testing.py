"""Tests for executors of your own: the contract of `inklab.study.executor.Executor`, as classes for pytest.

Example:
    A file of tests for an executor, which pytest runs as it is::

        from inklab.testing import ExecutorConformance

        class TestMyExecutor(ExecutorConformance):
            def make_executor(self, context, work_dir, workers):
                return MyExecutor(context, work_dir, workers)

The tests train tiny networks; some of these kill their process or print garbage. They need POSIX signals.
"""

from collections import Counter
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path

import numpy as np

from inklab.data.dataset import ImageSet, Split
from inklab.errors import WriteError
from inklab.records.components import NetworkConfig, NormalizeConfig, Preprocessing
from inklab.records.outcomes import TrialOutcome, TrialState
from inklab.records.plan import GroupPlan, Trial
from inklab.records.recipe import Recipe, TrialConfig
from inklab.records.status import Draft
from inklab.study.executor import Executor
from inklab.study.jobs import (
    Done,
    EpochEnded,
    Failed,
    JobContext,
    JobEvent,
    Lost,
    Retried,
    Started,
    TrainingJob,
    Warned,
    write_split_arrays,
)
from inklab.study.planner import NUMERICS
from inklab.study.run_directory import RunDirectory
from inklab.training.checkpoint_files import list_checkpoints

CLASSES, SIDE, TRAINING_IMAGES, BATCH_SIZE = 10, 12, 480, 64

TROUBLESOME_NETWORKS = '''
"""Networks that make trouble in training only (a preflight check has four images), until a file exists."""

import math
import os
import signal
import time
from pathlib import Path

from torch import nn

HERE = Path(__file__).parent


class Quiet(nn.Sequential):
    def __init__(self, shape, classes):
        super().__init__(nn.Flatten(), nn.Linear(math.prod(shape), classes))

    def forward(self, images):
        if self.training and len(images) > 4 and not (HERE / "healed").exists():
            self.trouble()
        return super().forward(images)

    def trouble(self):
        pass


class Dies(Quiet):
    def trouble(self):
        os.kill(os.getpid(), signal.SIGKILL)


class DiesOnce(Quiet):
    def trouble(self):
        if not (HERE / "died").exists():
            (HERE / "died").touch()
            os.kill(os.getpid(), signal.SIGKILL)


class DiesLater(Quiet):
    """Slowly, so that every step can be kept; in the 20th step that a process takes."""

    taken = 0

    def trouble(self):
        time.sleep(0.03)
        DiesLater.taken += 1
        if DiesLater.taken == 20 and not (HERE / "died later").exists():
            (HERE / "died later").touch()
            os.kill(os.getpid(), signal.SIGKILL)


class HangsOnce(Quiet):
    def trouble(self):
        if not (HERE / "hung").exists():
            (HERE / "hung").touch()
            time.sleep(3600)


class Sleeps(Quiet):
    """From its second step on."""

    taken = 0

    def trouble(self):
        Sleeps.taken += 1
        if Sleeps.taken > 1:
            (HERE / "asleep").touch()
            time.sleep(60)


class Slow(Quiet):
    def trouble(self):
        time.sleep(0.03)


class Raises(Quiet):
    def trouble(self):
        raise ValueError("on purpose")


class Babbles(Quiet):
    """Writes what no protocol expects to its standard streams, by Python and past it."""

    def trouble(self):
        print("\\0\\N{SNOWMAN}" * 1000, end="")
        for stream in (1, 2):
            os.write(stream, bytes(range(256)) * 20)
'''


def write_networks(folder: Path) -> str:
    """Write `TROUBLESOME_NETWORKS` into a folder; the file's path, for names such as `<path>:Dies`.

    A file `healed` beside it lets all of them train quietly.
    """
    path = folder / "nets.py"
    path.write_text(TROUBLESOME_NETWORKS, encoding="utf-8")
    return str(path)


def write_context(folder: Path) -> JobContext:
    """What jobs need: a run directory in `folder` with 480 training and 100 test images of 12 x 12 pixels."""
    run_directory, random = RunDirectory(folder), np.random.default_rng(0)
    patterns = random.uniform(0, 255, size=(CLASSES, 1, SIDE, SIDE))

    def images(count: int) -> ImageSet:
        labels = np.arange(count) % CLASSES
        noisy = patterns[labels] + random.normal(0, 25, size=(count, 1, SIDE, SIDE))
        return ImageSet(noisy.clip(0, 255).astype(np.uint8), labels.astype(np.int64))

    split = Split(images(TRAINING_IMAGES), images(0), images(100))
    write_split_arrays(run_directory, split)
    return JobContext(
        run_path=folder, seed=3, labels=tuple(map(str, range(CLASSES))),
        preprocessing=Preprocessing.resize_only((1, SIDE, SIDE)), data_sha256="0" * 64, numerics=NUMERICS,
        threads=1,
    )  # fmt: skip


def training_job(name: str, network: str, **recipe: object) -> TrainingJob:
    """A job that trains one trial, both called `name`.

    Args:
        name: letters only: it is an id.
        network: a registered name, or `file.py:Name`.
        recipe: fields of the recipe; 2 epochs in batches of 64 where it has none.
    """
    config = TrialConfig(
        network=NetworkConfig.of(network), normalize=NormalizeConfig(),
        recipe=Recipe.model_validate({"epochs": 2, "batch_size": BATCH_SIZE, **recipe}), precision="fp32",
    )  # fmt: skip
    group = GroupPlan(
        trials=(name,), stacked=False, reseed_each_step=False, population_size=1, compiled=False
    )
    return TrainingJob(group, (Trial(name, config, 0),))


def events_of(events: Sequence[JobEvent], name: str) -> list[JobEvent]:
    """The events of the job that trains `name`, without warnings, which an executor is free to give."""
    return [event for event in events if event.job.ids == (name,) and not isinstance(event, Warned)]


def kinds(events: Sequence[JobEvent]) -> list[type[JobEvent]]:
    """The classes of events."""
    return [type(event) for event in events]


def outcome_of(event: JobEvent) -> TrialOutcome:
    """The outcome in the draft of a training of one trial that is done."""
    assert isinstance(event, Done), event
    (draft,) = event.drafts
    return TrialOutcome.read(event.attempt_dir / draft.kind / draft.id / "outcome.json")


class ExecutorUnderTest:
    """What the tests of an executor have in common."""

    def make_executor(
        self, context: JobContext, work_dir: Path, workers: int
    ) -> AbstractContextManager[Executor]:
        """The executor that is tested; override it.

        Args:
            context: handed to every job.
            work_dir: for attempts; it need not exist.
            workers: jobs that may run side by side.
        """
        raise NotImplementedError

    def run(
        self, context: JobContext, work_dir: Path, *jobs: TrainingJob, workers: int = 1
    ) -> list[JobEvent]:
        """All events of some jobs."""
        with self.make_executor(context, work_dir, workers) as executor:
            for job in jobs:
                executor.submit(job)
            return list(executor.events())


class ExecutorJobs(ExecutorUnderTest):
    """Jobs that end by themselves. Run as one session, since workers take seconds to start."""

    def test_every_job_ends_once_with_what_became_of_it(self, tmp_path: Path) -> None:
        """Done, diverged, failed: no error is raised, and more may be submitted meanwhile."""
        nets, events = write_networks(tmp_path), []
        with self.make_executor(write_context(tmp_path / "run"), tmp_path / "work", 2) as executor:
            assert isinstance(executor, Executor)
            executor.submit(training_job("good", "mlp"))
            for name in ("Raises", "Missing", "Babbles"):
                executor.submit(training_job(name, f"{nets}:{name}"))
            executor.submit(training_job("diverges", "mlp", learning_rate=1e30))
            for event in executor.events():
                events.append(event)
                if isinstance(event, Failed) and event.job.ids == ("Raises",):
                    executor.submit(training_job("later", f"{nets}:Quiet"))
        names = ["good", "Raises", "Missing", "Babbles", "diverges", "later"]
        ends = Counter(event.job.name for event in events if event.is_terminal)
        assert ends == {f"train {name}": 1 for name in names}
        assert all(events_of(events, name)[-1].is_terminal for name in names), "nothing follows the end"
        self._check_done(events)
        self._check_failed(events)

    def _check_done(self, events: Sequence[JobEvent]) -> None:
        """Done means whole drafts, and divergence is an outcome."""
        for name in ("good", "Babbles", "later"):
            own = events_of(events, name)
            points = [event for event in own if isinstance(event, EpochEnded)]
            assert kinds(own) == [Started, EpochEnded, EpochEnded, Done], name
            assert [(point.epoch, point.epochs) for point in points] == [(1, 2), (2, 2)]
            done, outcome = own[-1], outcome_of(own[-1])
            assert isinstance(done, Done) and done.drafts == (Draft(kind="trials", id=name),)
            assert (outcome.id, outcome.state, outcome.numerics) == (name, TrialState.DONE, NUMERICS)
            assert outcome.environment is not None and outcome.environment.threads == 1
            assert (done.attempt_dir / "trials" / name / "model" / "weights.safetensors").is_file()
        outcome = outcome_of(events_of(events, "diverges")[-1])
        assert outcome.state is TrialState.DIVERGED and outcome.metrics is None

    def _check_failed(self, events: Sequence[JobEvent]) -> None:
        """An exception is reported with its traceback, a mistake of the user's in one line."""
        raised, missing = (events_of(events, name)[-1] for name in ("Raises", "Missing"))
        assert isinstance(raised, Failed) and raised.reason.startswith("Traceback")
        assert "nets.py" in raised.reason and raised.reason.strip().endswith("ValueError: on purpose")
        assert isinstance(missing, Failed) and "'Missing'" in missing.reason and "\n" not in missing.reason


class ExecutorFaults(ExecutorUnderTest):
    """Workers that die, a disk that refuses, and runs that are interrupted."""

    def test_a_job_whose_worker_dies_is_tried_again_and_then_lost(self, tmp_path: Path) -> None:
        """The jobs beside it go on; each attempt has a directory of its own."""
        nets = write_networks(tmp_path)
        jobs = [training_job(name, f"{nets}:{name}") for name in ("DiesOnce", "Dies", "Quiet")]
        events = self.run(write_context(tmp_path / "run"), tmp_path / "work", *jobs, workers=2)
        once, always, quiet = (events_of(events, job.ids[0]) for job in jobs)
        assert kinds(once) == [Started, Retried, Started, EpochEnded, EpochEnded, Done]
        assert kinds(always) == [Started, Retried, Started, Lost]
        first, again = (event.attempt_dir for event in (quiet[-1], once[-1]) if isinstance(event, Done))
        assert (first.name, again.name) == ("1", "2") and first.parent != again.parent
        assert outcome_of(once[-1]).state is outcome_of(quiet[-1]).state is TrialState.DONE

    def test_a_job_whose_worker_dies_continues_from_its_checkpoint(self, tmp_path: Path) -> None:
        """No epoch is trained twice, and the weights are those of an undisturbed training, to the bit."""
        nets = write_networks(tmp_path)
        context = replace(write_context(tmp_path / "run"), checkpoint_every=0.0)
        dying, whole = (
            events_of(
                self.run(context, tmp_path / "work", training_job(name, f"{nets}:{name}", epochs=6)), name
            )
            for name in ("DiesLater", "Quiet")
        )
        index, steps = kinds(dying).index(Retried), -(-TRAINING_IMAGES // BATCH_SIZE)
        assert [event.epoch for event in dying if isinstance(event, EpochEnded)] == [1, 2, 3, 4, 5, 6]
        assert kinds(dying[:index]).count(EpochEnded) == 19 // steps
        interrupted, undisturbed = outcome_of(dying[-1]), outcome_of(whole[-1])
        assert interrupted.weights_sha256 == undisturbed.weights_sha256
        assert interrupted.history == undisturbed.history

    def test_an_interrupted_training_leaves_a_checkpoint_that_the_next_session_continues(
        self, tmp_path: Path
    ) -> None:
        """Within its step, long before its interval; the numbers are those of an undisturbed training."""
        nets, context, events = write_networks(tmp_path), write_context(tmp_path / "run"), []
        job, work = training_job("Slow", f"{nets}:Slow", epochs=40), tmp_path / "work"
        try:
            with self.make_executor(context, work, 1) as executor:
                executor.submit(job)
                for event in executor.events():
                    events.append(event)
                    if isinstance(event, EpochEnded):
                        raise KeyboardInterrupt
        except KeyboardInterrupt:
            pass
        assert kinds(events) == [Started, EpochEnded]
        assert len(list_checkpoints(work.glob("*/*/checkpoints"))) == 1
        (tmp_path / "healed").touch()
        resumed = events_of(self.run(context, work, job), "Slow")
        epochs = [event.epoch for event in resumed if isinstance(event, EpochEnded)]
        assert epochs and epochs[0] > 1 and epochs[-1] == 40, "it begins after what was trained"
        whole = self.run(context, tmp_path / "whole", job)
        assert outcome_of(resumed[-1]).weights_sha256 == outcome_of(whole[-1]).weights_sha256

    def test_a_disk_that_refuses_ends_the_run_and_blames_no_job(self, tmp_path: Path) -> None:
        """The directory for attempts lies below a file."""
        context, events = write_context(tmp_path / "run"), []
        (tmp_path / "file").touch()
        refused = None
        try:
            with self.make_executor(context, tmp_path / "file" / "work", 1) as executor:
                executor.submit(training_job("good", "mlp"))
                for event in executor.events():
                    events.append(event)
        except WriteError as error:
            refused = error
        assert refused is not None and str(tmp_path / "file") in str(refused)
        assert not any(event.is_terminal for event in events)


class ExecutorConformance(ExecutorJobs, ExecutorFaults):
    """Everything that an executor must do: inherit it, and override `make_executor`."""

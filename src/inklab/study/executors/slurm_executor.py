"""The SLURM executor: a few long SLURM jobs, the workers, each of which runs many jobs of the run.

Workers take jobs from a queue in the run directory, which all nodes share (docs/clusters.md). SLURM is asked
for workers once, not for every job: its scheduler is made for hundreds of long jobs.
"""

import re
import time
from collections import Counter, deque
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Any

from inklab.errors import ConfigError, RunError, UnknownNameError, WriteError
from inklab.study.executor import (
    MAX_NODE_LOSSES,
    SHUTDOWN_GRACE_SECONDS,
    ExecutorFactory,
    ExecutorOptions,
    WriteRefused,
    executor,
    refuse_gpu,
)
from inklab.study.executors.node_facts import NodeFacts, log_tail
from inklab.study.executors.shared_queue import SharedQueue
from inklab.study.executors.slurm_worker import (
    SlurmWorker,
    WorkerEvent,
    WorkerMessage,
    WorkerRefused,
    WorkerStarted,
    WorkerStopped,
)
from inklab.study.jobs import Job, JobContext, JobEvent, Lost, Retried, Started, TrainingJob, Warned
from inklab.study.resources import WORKER_BYTES

DEFAULT_MINUTES = 240  # of a worker, before it is queued again
SBATCH_OPTIONS = (
    "account", "comment", "constraint", "exclude", "gres", "nice", "nodelist", "partition", "qos",
    "reservation",
)  # fmt: skip
SETTINGS = (*SBATCH_OPTIONS, "cluster", "cpus-per-task", "mem", "setup", "time")
CLUSTERS = ("slurm", "local")

POLL_SECONDS = 0.2  # between two looks for messages
CHECK_SECONDS = 2.0  # between two looks at the SLURM jobs; submitit asks SLURM itself less often
BEAT_SECONDS = 30.0
END_SECONDS = 10.0  # that workers get to end when no job is left
WORKER_SILENCE_SECONDS = 600.0  # without a heartbeat, until a worker is taken for dead
MAX_FAILED_STARTS = 3  # workers that end before they have begun, until the run gives up
MAX_REQUEUES = 1000  # of a worker whose time is up


@executor("slurm")
def slurm_executor(options: ExecutorOptions) -> ExecutorFactory:
    """A few long SLURM jobs that each run many jobs, over a shared file system."""
    if options.address:
        raise ConfigError("the executor 'slurm' has no address; leave --ray-address out")
    try:
        import submitit  # noqa: F401
    except ImportError:
        raise ConfigError(
            "the executor 'slurm' needs submitit, which is not installed: pip install 'inklab[slurm]'"
        ) from None
    if options.workers is None:
        raise ConfigError(
            "the executor 'slurm' needs the number of SLURM jobs that run side by side: add --workers 8 "
            "(workers=8 in Python)"
        )
    settings = SlurmSettings.of(options.settings)

    def make(context: JobContext, work_dir: Path, workers: int) -> "SlurmExecutor":
        return SlurmExecutor(context, work_dir, workers, settings)

    return make


@dataclass(frozen=True)
class SlurmSettings:
    """What is requested of SLURM for each worker.

    Attributes:
        cluster: "slurm", or "local" for processes of this machine, to try things out.
        minutes: of time; a worker whose time is up leaves checkpoints and is queued again.
        memory: as sbatch takes it; "" for 1 GiB a process and 1 GiB more.
        cpus: of each worker; None for the threads of one process.
        setup: a line of shell that runs before a worker, such as "module load python".
        sbatch: other options of sbatch.
    """

    cluster: str = "slurm"
    minutes: int = DEFAULT_MINUTES
    memory: str = ""
    cpus: int | None = None
    setup: str = ""
    sbatch: tuple[tuple[str, str], ...] = ()

    @classmethod
    def of(cls, settings: Mapping[str, str]) -> "SlurmSettings":
        """Those that `--slurm KEY=VALUE` gives.

        Raises:
            ConfigError: there is no such setting, or it can't have this value.
        """
        for key in settings:
            if key not in SETTINGS:
                raise UnknownNameError("setting of SLURM", key, SETTINGS)
        cluster, cpus = settings.get("cluster", "slurm"), settings.get("cpus-per-task")
        if cluster not in CLUSTERS:
            raise ConfigError(f"--slurm cluster={cluster}: allowed are {' and '.join(CLUSTERS)}")
        if cpus is not None and (not cpus.isdigit() or int(cpus) == 0):
            raise ConfigError(f"--slurm cpus-per-task={cpus}: give a whole number from 1")
        return cls(
            cluster=cluster, minutes=parse_minutes(settings.get("time", str(DEFAULT_MINUTES))),
            memory=settings.get("mem", ""), cpus=int(cpus) if cpus else None,
            setup=settings.get("setup", ""),
            sbatch=tuple((key, settings[key]) for key in SBATCH_OPTIONS if key in settings),
        )  # fmt: skip

    def parameters(self, threads: int) -> dict[str, Any]:
        """As submitit takes them."""
        parameters: dict[str, Any] = {
            "name": "inklab",
            "timeout_min": self.minutes,
            "stderr_to_stdout": True,
            "slurm_cpus_per_task": self.cpus or threads,
            "slurm_mem": self.memory or f"{(self.processes(threads) + 1) * WORKER_BYTES >> 20}M",
            "slurm_additional_parameters": dict(self.sbatch),
        }
        if self.setup:
            parameters["slurm_setup"] = [self.setup]
        return parameters

    def processes(self, threads: int) -> int:
        """How many jobs run side by side in a worker."""
        return max(1, (self.cpus or threads) // threads)


def parse_minutes(text: str) -> int:
    """A time limit as sbatch takes it, in whole minutes.

    Raises:
        ConfigError: it is none, or below a minute.

    Example:
        >>> [parse_minutes(text) for text in ("90", "90:00", "4:00:00", "2-00", "1-12:30")]
        [90, 90, 240, 2880, 2190]
    """
    match = re.fullmatch(r"(?:(\d+)-)?(\d+)(?::(\d+))?(?::(\d+))?", text)
    if match:
        days, *parts = (int(part) if part else 0 for part in match.groups())
        if match[1]:
            hours, minutes = parts[0], parts[1]
        elif match[4]:
            hours, minutes = parts[0], parts[1]
        else:
            hours, minutes = 0, parts[0]
        if total := (days * 24 + hours) * 60 + minutes:
            return total
    raise ConfigError(
        f"--slurm time={text}: give a time limit of at least a minute, as sbatch takes it: 90 (minutes), "
        "4:00:00 or 2-12:00:00"
    )


@dataclass
class _Allocation:
    """A SLURM job, a worker."""

    index: int
    slurm_job: Any
    name: str = ""  # of the worker while it runs
    host: str = ""
    last_message: float = 0.0  # when it came

    @property
    def label(self) -> str:
        """What a person calls it."""
        where = f" on {self.host}" if self.host else ""
        return f"worker {self.index} (SLURM job {self.slurm_job.job_id}{where})"


@dataclass
class SlurmExecutor:
    """A few long SLURM jobs that each run many jobs.

    Left by an exception, such as Ctrl-C, it lets trainings end with a checkpoint.

    Args:
        context: handed to every job; gives the threads of each.
        work_dir: for attempts and the queue; all nodes share it.
        workers: SLURM jobs at most; one is requested only when a job waits for it.
        settings: what is requested of SLURM.

    Raises:
        RunError: SLURM is not there, or refuses the workers.
        WriteError: the disk refuses.
    """

    context: JobContext
    work_dir: Path
    workers: int
    settings: SlurmSettings = SlurmSettings()
    _waiting: deque[Job] = field(default_factory=deque, init=False)
    _offered: dict[int, Job] = field(default_factory=dict, init=False)  # also those that run
    _started: set[int] = field(default_factory=set, init=False)
    _returns: Counter[str] = field(default_factory=Counter, init=False)
    _allocations: dict[int, _Allocation] = field(default_factory=dict, init=False)
    _failed_starts: int = field(default=0, init=False)
    _refusals: list[str] = field(default_factory=list, init=False)
    _warned: int = field(default=0, init=False)  # refusals that are reported

    def __post_init__(self) -> None:
        self._numbers, self._indices, self._beats = count(), count(), count()
        self._next_check = self._next_beat = 0.0

    def __enter__(self) -> "SlurmExecutor":
        refuse_gpu(self.context, "slurm")
        self._processes = self.settings.processes(self.context.threads)
        self._driver = NodeFacts.current()
        self._queue = SharedQueue.create(self.work_dir)
        try:
            self._submitit = self._connect()
        except BaseException:
            self._queue.delete()
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        try:
            self._queue.stop()
            self._wait_for_end(END_SECONDS if kind is None else SHUTDOWN_GRACE_SECONDS + END_SECONDS)
        finally:
            for allocation in self._allocations.values():
                with suppress(Exception):  # it has ended meanwhile, or SLURM does not answer
                    allocation.slurm_job.cancel()
            self._wait_for_slurm(END_SECONDS)
            self._queue.delete()

    def _connect(self) -> Any:
        import submitit

        try:
            connected = submitit.AutoExecutor(
                self._queue.path / "submitit",
                cluster=self.settings.cluster,
                slurm_max_num_timeout=MAX_REQUEUES,
            )
            connected.update_parameters(**self.settings.parameters(self.context.threads))
        except RuntimeError as error:
            raise RunError(
                f"SLURM can't be used here ({error}); run this on a login node of the cluster, or leave "
                "--executor slurm out"
            ) from error
        return connected

    # ------------------------------------------------------------ workers

    def _start_workers(self) -> None:
        """Request the workers for which jobs wait, in one call."""
        room = self.workers - len(self._refusals)  # no others for these: they might get the same nodes
        missing = min(room, len(self._offered) + len(self._waiting)) - len(self._allocations)
        if missing <= 0:
            return
        indices = [next(self._indices) for _ in range(missing)]
        functions = [
            SlurmWorker(self._queue.path, index, self._processes, self.context, self._driver)
            for index in indices
        ]
        try:
            jobs = self._submitit.submit_array(functions)
        except OSError as error:
            raise WriteError(self._queue.path, error) from error
        except Exception as error:  # whatever submitit makes of what sbatch says
            raise RunError(f"SLURM refuses the workers: {_last_line(error)}") from error
        now = time.monotonic()
        for index, job in zip(indices, jobs, strict=True):
            self._allocations[index] = _Allocation(index, job, last_message=now)

    def _check_workers(self) -> Iterator[JobEvent]:
        """Find the workers that have ended without a word; their jobs are run by others."""
        for allocation in list(self._allocations.values()):
            is_silent = time.monotonic() - allocation.last_message > WORKER_SILENCE_SECONDS
            if not allocation.slurm_job.done() and not (allocation.name and is_silent):
                continue
            yield from self._read_messages()  # what it has sent before it ended
            del self._allocations[allocation.index]
            if allocation.name and is_silent:
                allocation.slurm_job.cancel()
            if not allocation.host:
                self._count_failed_start(allocation)
            if allocation.name:
                yield from self._give_back(allocation, self._describe_end(allocation))
        if not self._allocations and len(self._refusals) >= self.workers:
            reasons = "; ".join(dict.fromkeys(self._refusals))
            raise RunError(f"no worker can compute this run: {reasons}")

    def _count_failed_start(self, allocation: _Allocation) -> None:
        self._failed_starts += 1
        if self._failed_starts >= MAX_FAILED_STARTS:
            raise RunError(
                f"{self._failed_starts} workers ended before they began; {self._describe_end(allocation)}. "
                "Finished work is kept; continue with inklab resume."
            )

    def _describe_end(self, allocation: _Allocation) -> str:
        output = log_tail(str(allocation.slurm_job.paths.stdout))
        return f"{allocation.label} ended" + (f"; its last output: {output}" if output else "")

    def _give_back(
        self, allocation: _Allocation, reason: str, *, has_checkpoint: bool = False
    ) -> Iterator[JobEvent]:
        """Queue the jobs that a worker had claimed once more; trainings that left a checkpoint progress."""
        name, allocation.name = allocation.name, ""
        claims = [number for number, worker in self._queue.claims() if worker == name]
        for number in claims:
            self._queue.release(number, name)
            job = self._offered.pop(number, None)
            if job is None:
                continue
            if not (has_checkpoint and isinstance(job, TrainingJob)):
                self._returns[job.name] += 1
            if number in self._started:
                yield self._retry(job, reason)
            else:
                self._waiting.appendleft(job)

    def _retry(self, job: Job, reason: str) -> Retried | Lost:
        if self._returns[job.name] > MAX_NODE_LOSSES:
            return Lost(job, f"{reason}; its worker was lost {self._returns[job.name]} times")
        self._waiting.appendleft(job)
        return Retried(job, reason)

    def _wait_for_end(self, seconds: float) -> None:
        """Wait until the workers that run have stopped; what they send is of no interest."""
        deadline = time.monotonic() + seconds
        while any(allocation.name for allocation in self._allocations.values()):
            for worker, message in self._queue.receive():
                if isinstance(message, WorkerStarted | WorkerStopped) and (owner := self._owner(worker)):
                    owner.name = worker if isinstance(message, WorkerStarted) else ""
            for allocation in self._allocations.values():
                if allocation.slurm_job.done():
                    allocation.name = ""
            if time.monotonic() > deadline:
                return
            time.sleep(POLL_SECONDS)

    def _wait_for_slurm(self, seconds: float) -> None:
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            if all(allocation.slurm_job.done() for allocation in self._allocations.values()):
                return
            time.sleep(POLL_SECONDS)

    def _owner(self, worker: str) -> _Allocation | None:
        return self._allocations.get(int(worker.partition("-")[0]))

    # ------------------------------------------------------------ jobs

    def submit(self, job: Job) -> None:
        """Queue a job."""
        self._waiting.append(job)

    def events(self) -> Iterator[JobEvent]:
        """What happens, until every submitted job has ended.

        Raises:
            WriteError: the disk refuses.
            RunError: SLURM refuses the workers, or they end before they begin.
        """
        while self._waiting or self._offered:
            self._offer_jobs()
            self._start_workers()
            is_idle = True
            for event in self._read_messages():
                is_idle = False
                yield event
            now = time.monotonic()
            if now >= self._next_check:
                self._next_check = now + CHECK_SECONDS
                yield from self._check_workers()
            if now >= self._next_beat:
                self._next_beat = now + BEAT_SECONDS
                self._queue.beat(next(self._beats))
            if is_idle:
                time.sleep(POLL_SECONDS)

    def _offer_jobs(self) -> None:
        """Keep as many jobs offered as all workers can run, and as many again."""
        while self._waiting and len(self._offered) < 2 * self.workers * self._processes:
            job, number = self._waiting.popleft(), next(self._numbers)
            self._queue.offer(number, job)
            self._offered[number] = job

    def _read_messages(self) -> Iterator[JobEvent]:
        for worker, message in self._queue.receive():
            if allocation := self._owner(worker):  # else of one that was given up
                allocation.last_message = time.monotonic()
                yield from self._on_message(allocation, worker, message)

    def _on_message(self, allocation: _Allocation, worker: str, message: WorkerMessage) -> Iterator[JobEvent]:
        match message:
            case WorkerStarted(host):
                if allocation.name:  # SLURM has started it again
                    yield from self._give_back(allocation, f"{allocation.label} was started again")
                allocation.name, allocation.host = worker, host
            case WorkerRefused(host, differences):
                allocation.name = ""
                self._refusals.append(f"node {host} is not used, since its numbers may differ: {differences}")
            case WorkerStopped():
                if worker == allocation.name:
                    reason = f"{allocation.label} was stopped by SLURM"
                    yield from self._give_back(allocation, reason, has_checkpoint=True)
            case WriteRefused(path, number):
                raise WriteError(Path(path), OSError(number, "the disk of a node refuses it"))
            case WorkerEvent(number, event):
                yield from self._on_event(worker, number, event)

    def _on_event(self, worker: str, number: int, event: JobEvent) -> Iterator[JobEvent]:
        if number not in self._offered:  # of a worker that was taken for dead
            return
        if event.is_terminal:
            del self._offered[number]
            self._queue.release(number, worker)
        elif isinstance(event, Started):
            self._started.add(number)
            for refusal in self._refusals[self._warned :]:
                yield Warned(event.job, refusal)
            self._warned = len(self._refusals)
        yield event


def _last_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return lines[-1] if lines else type(error).__name__

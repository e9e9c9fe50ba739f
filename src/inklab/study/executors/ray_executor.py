"""The Ray executor: jobs as tasks of a Ray cluster, also one on this machine (docs/clusters.md).

Ray runs an attempt once and never again by itself; retries from checkpoints are ours. The driver, this
process, is the only one that writes into the run directory.
"""

import os
import time
from collections import Counter, OrderedDict
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from inklab.errors import ConfigError, CorruptFileError, InklabError, RunError, WriteError
from inklab.hardware import cores
from inklab.imported_files import files_behind
from inklab.study.executor import (
    HANG_TIMEOUT_SECONDS,
    MAX_NODE_LOSSES,
    SHUTDOWN_GRACE_SECONDS,
    THREAD_VARIABLES,
    AttemptQueue,
    ExecutorFactory,
    ExecutorOptions,
    WorkerSignal,
    WriteRefused,
    executor,
    refuse_gpu,
)
from inklab.study.executors.node_facts import NodeFacts, log_tail
from inklab.study.executors.ray_worker import (
    Arrived,
    Finished,
    Letter,
    Mailbox,
    NodeDiffers,
    RemoteTask,
    UserFile,
    node_facts,
    pack_folder,
    run_remote_job,
    unpack_files,
)
from inklab.study.jobs import (
    ARRAYS,
    SPLITS,
    CheckJob,
    Done,
    EvaluationJob,
    Failed,
    Job,
    JobContext,
    JobEvent,
    Lost,
    PreflightJob,
    Started,
    TrainingJob,
    Warned,
    array_path,
)
from inklab.study.resources import WORKER_BYTES
from inklab.study.run_directory import CHECKPOINTS
from inklab.training.checkpoint_files import (
    KEPT_CHECKPOINTS,
    PackedCheckpoint,
    list_checkpoints,
    prune_checkpoints,
)
from inklab.usercode import is_live, is_user_code, map_names, source_sha256

POLL_SECONDS = 5.0  # between two looks at the cluster
FACTS_SECONDS = 120.0  # that a node gets to start a process and report its facts
LOG_SECONDS = 10.0  # that a node gets to send the end of a log
OBJECT_STORE_BYTES = 512 << 20  # of a Ray that is started here: the images and a few models and checkpoints
MAX_CACHED_MODELS = 64  # in the object store: evaluations of a model come one after the other


@executor("ray")
def ray_executor(options: ExecutorOptions) -> ExecutorFactory:
    """Tasks of a Ray cluster, which need no shared file system; without an address, of this machine."""
    options.refuse_settings("ray")
    _import_ray()

    def make(context: JobContext, work_dir: Path, workers: int) -> "RayExecutor":
        return RayExecutor(context, work_dir, options.workers, address=options.address)

    return make


def _import_ray() -> Any:
    try:
        import ray
    except ImportError:
        raise ConfigError(
            "the executor 'ray' needs ray, which is not installed: pip install 'inklab[ray]'"
        ) from None
    return ray


@dataclass
class _Attempt:
    """An attempt at a job that Ray was handed."""

    job: Job
    directory: Path
    ref: Any  # of the task's return value, which is None
    node: str = ""  # once it has begun
    log: str = ""
    has_returned: bool = False  # its last letter is in the mailbox
    can_checkpoint: bool = False
    silent_seconds: float = 0.0
    killed_because: str = ""


@dataclass
class RayExecutor:
    """Tasks of a Ray cluster.

    Left by an exception, such as Ctrl-C, it lets trainings end with a checkpoint.

    Args:
        context: handed to every job; gives the threads of each.
        work_dir: for attempts, on this machine only.
        workers: jobs side by side at most; None: as many as the cluster has room for.
        address: of a cluster, "auto" for the one that runs on this machine; None starts one that ends with
            the executor, unless this process is connected to one already.
        hang_timeout: seconds without a message after which a worker is killed.

    Raises:
        ConfigError: ray is not installed, or the run trains on a GPU.
        RunError: the cluster can't be reached, or has no node that can run a job.
    """

    context: JobContext
    work_dir: Path
    workers: int | None = None
    address: str | None = None
    hang_timeout: float = HANG_TIMEOUT_SECONDS
    _attempts: AttemptQueue = field(init=False)
    _running: dict[str, _Attempt] = field(default_factory=dict, init=False)
    _node_losses: Counter[str] = field(default_factory=Counter, init=False)
    _refused: dict[str, str] = field(default_factory=dict, init=False)
    _notices: list[str] = field(default_factory=list, init=False)
    _room: int = field(default=0, init=False)  # for jobs, also those that wait in Ray
    _next_count: float = field(default=0.0, init=False)
    _models: "OrderedDict[str, Any]" = field(default_factory=OrderedDict, init=False)

    def __post_init__(self) -> None:
        self._attempts = AttemptQueue(self.work_dir)

    # ------------------------------------------------------------ begin and end

    def __enter__(self) -> "RayExecutor":
        refuse_gpu(self.context, "ray")
        self._ray = _import_ray()
        self._owns_connection = not self._ray.is_initialized()
        if self._owns_connection:
            self._connect()
        try:
            self._check_nodes()
            self._start_mailbox()
            self._arrays = self._ray.put(self._read_arrays())
            self._run = self._remote_function()
        except BaseException:
            self._disconnect()
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        try:
            if kind is not None and any(attempt.can_checkpoint for attempt in self._running.values()):
                self._shutdown()
        finally:
            with suppress(self._ray.exceptions.RayError):
                for attempt in self._running.values():
                    self._ray.cancel(attempt.ref, force=True)
                self._ray.kill(self._mailbox)
            self._disconnect()

    def _connect(self) -> None:
        quiet = {"log_to_driver": False, "configure_logging": False, "logging_level": "ERROR"}
        try:
            if self.address:
                self._ray.init(address=self.address, **quiet)
            else:
                self._ray.init(
                    address="local", num_cpus=max(cores(), self.context.threads), include_dashboard=False,
                    object_store_memory=OBJECT_STORE_BYTES, _node_ip_address="127.0.0.1", **quiet,
                )  # fmt: skip
        except (ConnectionError, ValueError, RuntimeError) as error:
            where = f"the Ray cluster at '{self.address}'" if self.address else "Ray on this machine"
            raise RunError(f"{where} can't be reached: {str(error).strip().splitlines()[0]}") from error

    def _disconnect(self) -> None:
        if self._owns_connection:
            self._ray.shutdown()

    def _remote_function(self) -> Any:
        """The function of all jobs; Ray runs none of them again by itself.

        Processes are used for several jobs, as by the local executor: a new one imports torch for seconds.
        """
        variables = dict.fromkeys(THREAD_VARIABLES, str(self.context.threads))
        return self._ray.remote(
            num_cpus=self.context.threads, memory=WORKER_BYTES, max_retries=0,
            retry_exceptions=False, runtime_env={"env_vars": variables},
        )(run_remote_job)  # fmt: skip

    def _start_mailbox(self) -> None:
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        here = self._ray.get_runtime_context().get_node_id()
        pinned = NodeAffinitySchedulingStrategy(here, soft=False)
        actor = self._ray.remote(Mailbox).options(num_cpus=0, scheduling_strategy=pinned)
        self._mailbox = actor.remote()
        self._inbox = self._mailbox.take.remote()

    def _read_arrays(self) -> dict[tuple[str, str], np.ndarray]:
        directory = self.context.run_directory
        return {
            (split, array): np.load(array_path(directory, split, array), allow_pickle=False)
            for split in SPLITS
            for array in ARRAYS
        }

    def _shutdown(self) -> None:
        """Wait for trainings to send a checkpoint; other jobs are given up."""
        self._mailbox.stop.remote()
        self._attempts.waiting.clear()
        for name, attempt in list(self._running.items()):
            if not attempt.can_checkpoint:
                self._ray.cancel(attempt.ref, force=True)
                del self._running[name]
        deadline = time.monotonic() + SHUTDOWN_GRACE_SECONDS
        while self._running and time.monotonic() < deadline:
            for _ in self._step(dispatch=False):
                pass
            for job in self._attempts.waiting:
                self._running.pop(job.name, None)
            self._attempts.waiting.clear()

    # ------------------------------------------------------------ nodes

    def _nodes(self) -> dict[str, Mapping[str, Any]]:
        """The nodes that are alive and have processors, by id."""
        nodes = {str(node["NodeID"]): node for node in self._ray.nodes() if node["Alive"]}
        return {id: node for id, node in nodes.items() if node["Resources"].get("CPU", 0) > 0}

    def _check_nodes(self) -> None:
        """Compare the facts of all nodes with those of this machine before the first job.

        Raises:
            RunError: none has the same.
        """
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        nodes, asking = self._nodes(), self._ray.remote(node_facts)
        refs = {
            id: asking.options(
                num_cpus=0, max_retries=0, scheduling_strategy=NodeAffinitySchedulingStrategy(id, soft=False)
            ).remote()
            for id in nodes
        }
        facts: dict[str, NodeFacts] = {}
        for id, ref in refs.items():
            try:
                facts[id] = self._ray.get(ref, timeout=FACTS_SECONDS)
            except self._ray.exceptions.RayError as error:
                self._refuse(id, f"inklab does not start there ({_first_line(error)})")
        self._expected = self._choose_facts(facts)
        for id, of_node in facts.items():
            if differences := of_node.differences(self._expected):
                self._refuse(id, differences)
        if nodes and self._slots() == 0:
            reasons = "".join(f"; {notice}" for notice in dict.fromkeys(self._notices))
            raise RunError(f"no node of the cluster has {self.context.threads} CPUs for a job{reasons}")

    def _choose_facts(self, facts: Mapping[str, NodeFacts]) -> NodeFacts:
        """Those that all jobs are computed with: of this machine, or else of most nodes."""
        own = NodeFacts.current()
        counts = Counter(node for node in facts.values() if node.numerics == own.numerics)
        if not counts or own in counts:
            return own
        return max(counts, key=lambda node: counts[node])

    def _refuse(self, node: str, reason: str) -> None:
        """Use a node no more, and say so with the next job."""
        if node not in self._refused:
            host = next(
                (n["NodeManagerHostname"] for n in self._ray.nodes() if n["NodeID"] == node), node[:8]
            )
            self._refused[node] = reason
            self._notices.append(f"node {host} is not used, since its numbers may differ: {reason}")

    def _slots(self) -> int:
        """How many jobs have room at once."""
        processors = [
            node["Resources"]["CPU"] for id, node in self._nodes().items() if id not in self._refused
        ]
        return sum(int(count // self.context.threads) for count in processors)

    # ------------------------------------------------------------ jobs

    def submit(self, job: Job) -> None:
        """Queue a job."""
        self._attempts.add(job)

    def events(self) -> Iterator[JobEvent]:
        """What happens, until every submitted job has ended.

        Raises:
            WriteError: the disk refuses.
            RunError: the cluster can't be reached any more.
        """
        try:
            while self._attempts.waiting or self._running:
                yield from self._step()
        except self._ray.exceptions.RayError as error:
            raise RunError(
                f"the Ray cluster can't be reached any more: {_first_line(error)}. Finished work and "
                "checkpoints are kept; continue with inklab resume."
            ) from error

    def _step(self, *, dispatch: bool = True) -> Iterator[JobEvent]:
        """Hand out jobs, wait for something to happen, and handle it."""
        if dispatch:
            self._dispatch()
        refs = {attempt.ref: attempt for attempt in self._running.values() if not attempt.has_returned}
        timeout, before = min(POLL_SECONDS, self.hang_timeout), time.monotonic()
        ready, _ = self._ray.wait([self._inbox, *refs], num_returns=1, timeout=timeout)
        # While everything is paused (Ctrl-Z) time passes, but no worker hangs.
        waited = min(time.monotonic() - before, timeout)
        for attempt in self._running.values():
            attempt.silent_seconds += waited if attempt.node else 0.0
        ended = [ref for ref in refs if ref in ready] or self._ray.wait([*refs], timeout=0)[0] if refs else []
        if ended and self._inbox not in ready:
            self._mailbox.wake.remote()
        if ended or self._inbox in ready:
            yield from self._read_mail()
        for ref in ended:
            yield from self._on_return(refs[ref])
        for attempt in self._running.values():
            if attempt.silent_seconds >= self.hang_timeout and not attempt.killed_because:
                attempt.killed_because = f"its worker process sent nothing for {self.hang_timeout:g} s"
                self._ray.cancel(attempt.ref, force=True)

    def _dispatch(self) -> None:
        """Keep as many jobs with Ray as have room, and as many again: an autoscaler sees them wait."""
        if time.monotonic() >= self._next_count:  # a call of the cluster's head, slow with many nodes
            self._next_count = time.monotonic() + POLL_SECONDS
            self._room = 2 * max(1, self._slots())
        limit = self.workers or self._room
        while self._attempts.waiting and len(self._running) < limit:
            job, directory = self._attempts.begin()
            options: dict[str, Any] = {"name": job.label}
            if self._refused:
                options["label_selector"] = {"ray.io/node-id": f"!in({','.join(self._refused)})"}
            models = [self._model(trial) for trial in _trials_needed(job)]
            task = self._remote_task(job, directory)
            ref = self._run.options(**options).remote(task, self._arrays, self._mailbox, *models)
            self._running[job.name] = _Attempt(job, directory, ref)

    def _remote_task(self, job: Job, directory: Path) -> RemoteTask:
        checkpoints = [
            (attempt.name, PackedCheckpoint.of(path, attempt / CHECKPOINTS))
            for attempt in directory.parent.iterdir()
            for folder in (attempt / CHECKPOINTS, *(attempt / CHECKPOINTS).glob("*"))
            for path in list_checkpoints([folder])[-KEPT_CHECKPOINTS:]
        ]
        names = {*self.context.trust_code, *_names_in(job)}
        files = tuple(
            map(_user_file, sorted(name for name in names if is_user_code(name) and not is_live(name)))
        )
        return RemoteTask(job, int(directory.name), self.context, tuple(checkpoints), files, self._expected)

    def _model(self, trial: str) -> Any:
        """A trained model's files in the object store; the driver owns it, so no lost node takes it along."""
        if trial not in self._models:
            directory = self.context.run_directory.model_dir(trial)
            self._models[trial] = self._ray.put(pack_folder(directory, self.context.run_path))
            if len(self._models) > MAX_CACHED_MODELS:
                self._models.popitem(last=False)
        self._models.move_to_end(trial)
        return self._models[trial]

    # ------------------------------------------------------------ what workers send

    def _read_mail(self) -> Iterator[JobEvent]:
        letters: list[Letter] = self._ray.get(self._inbox)
        self._inbox = self._mailbox.take.remote()
        for letter in letters:
            attempt = self._running.get(letter.job)
            if attempt and letter.attempt == int(
                attempt.directory.name
            ):  # else of an attempt that was given up
                attempt.silent_seconds = 0.0
                yield from self._on_letter(attempt, letter)

    def _on_letter(self, attempt: _Attempt, letter: Letter) -> Iterator[JobEvent]:
        job = attempt.job
        match letter.payload:
            case Arrived(node, log):
                attempt.node, attempt.log = node, log
                yield Started(job)
                while self._notices and not isinstance(job, CheckJob | PreflightJob):
                    yield Warned(job, self._notices.pop())
            case NodeDiffers(differences):
                self._refuse(attempt.node, differences)
                del self._running[job.name]
                yield self._attempts.retry(job, "its node computes other numbers")
            case WorkerSignal.HEARTBEAT:
                attempt.can_checkpoint = True
            case WorkerSignal.STOPPED:
                del self._running[job.name]
            case WriteRefused(path, number):
                raise WriteError(Path(path), OSError(number, "the disk of a node refuses it"))
            case PackedCheckpoint() as checkpoint:
                self._store_checkpoint(attempt, checkpoint)
            case Finished() as finished:
                del self._running[job.name]
                yield self._store_result(attempt, finished)
            case event:
                if event.is_terminal:
                    del self._running[job.name]
                yield event

    def _store_checkpoint(self, attempt: _Attempt, checkpoint: PackedCheckpoint) -> None:
        """Keep a checkpoint as the worker would on this machine; one that is wrong is dropped."""
        with suppress(CorruptFileError):
            path = checkpoint.write(attempt.directory / CHECKPOINTS)
            below = path.parent.relative_to(attempt.directory)
            others = attempt.directory.parent.iterdir()
            prune_checkpoints(path.parent, [other / below for other in others if other != attempt.directory])

    def _store_result(self, attempt: _Attempt, finished: Finished) -> Done | Failed:
        """Write the drafts into the directory of the attempt, where the runner takes them from."""
        own = tuple(f"{draft.kind}/{draft.id}/" for draft in finished.drafts if draft.id in attempt.job.ids)
        try:
            if len(own) != len(finished.drafts):
                raise CorruptFileError("its worker sent results of another job")
            unpack_files(finished.files, attempt.directory, own)
        except CorruptFileError as error:
            return Failed(attempt.job, str(error))
        return Done(attempt.job, finished.drafts, attempt.directory, finished.traits)

    # ------------------------------------------------------------ workers that die

    def _on_return(self, attempt: _Attempt) -> Iterator[JobEvent]:
        """A task has ended: with its last letter sent, or because its process or node died."""
        attempt.has_returned = True
        try:
            self._ray.get(attempt.ref)
        except self._ray.exceptions.RayError as error:
            if self._running.get(attempt.job.name) is attempt:
                del self._running[attempt.job.name]
                yield from self._on_death(attempt, error)

    def _on_death(self, attempt: _Attempt, error: Exception) -> Iterator[JobEvent]:
        job, exceptions = attempt.job, self._ray.exceptions
        if not attempt.node:  # it never got as far as to say that it began
            yield Started(job)
        if isinstance(error, exceptions.RayTaskError):  # of our own code around the job: it fails each time
            cause = error.cause
            yield Failed(job, str(cause) if isinstance(cause, InklabError) else str(error))
            return
        if isinstance(error, exceptions.NodeDiedError) or self._node_is_gone(attempt.node):
            self._node_losses[job.name] += 1
            if self._node_losses[job.name] <= MAX_NODE_LOSSES:
                yield self._attempts.retry(job, "its node was lost")
            else:
                yield Lost(job, f"its node was lost {self._node_losses[job.name]} times")
            return
        reason = attempt.killed_because or f"its worker process ended: {_describe(error)}"
        ending = self._attempts.died(job, reason)
        if output := self._output(attempt):
            yield Warned(job, f"the last output of its worker: {output}")
        yield ending

    def _node_is_gone(self, node: str) -> bool:
        return bool(node) and not any(n["NodeID"] == node and n["Alive"] for n in self._ray.nodes())

    def _output(self, attempt: _Attempt) -> str:
        """The end of what a dead worker printed, brought back from its node; "" if there is nothing."""
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        if not attempt.log:
            return ""
        there = NodeAffinitySchedulingStrategy(attempt.node, soft=False)
        reading = self._ray.remote(log_tail).options(num_cpus=0, max_retries=0, scheduling_strategy=there)
        with suppress(self._ray.exceptions.RayError):
            return str(self._ray.get(reading.remote(attempt.log), timeout=LOG_SECONDS))
        return ""


def _trials_needed(job: Job) -> tuple[str, ...]:
    """The trials whose models a job reads."""
    return tuple(job.evaluation.depends_on) if isinstance(job, EvaluationJob) else ()


def _names_in(job: Job) -> set[str]:
    """All strings in what a job computes: names of the user's code are among them."""
    match job:
        case CheckJob(spec):
            records = [spec.to_json()]
        case PreflightJob(config=config):
            records = [config.to_json()]
        case TrainingJob(trials=trials):
            records = [trial.config.to_json() for trial in trials]
        case EvaluationJob(evaluation):
            records = [evaluation.to_json()]
    names: set[str] = set()

    def collect(name: str) -> str:
        names.add(name)
        return name

    for record in records:
        map_names(record, collect)
    return names


def _user_file(name: str) -> UserFile:
    written = Path(os.path.expanduser(name.rpartition(":")[0]))  # as the job names it
    path = written.resolve()
    files = tuple(
        (file.relative_to(path.parent).as_posix(), file.read_bytes()) for file in files_behind(path)
    )
    return UserFile(str(written), source_sha256(name), files)


def _describe(error: Exception) -> str:
    """Why a task ended, in a few words."""
    known = {"WorkerCrashedError": "killed, or it crashed", "OutOfMemoryError": "its node ran out of memory"}
    return known.get(type(error).__name__, f"{type(error).__name__}: {_first_line(error)}")


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__

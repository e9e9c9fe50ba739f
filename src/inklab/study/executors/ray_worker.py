"""A job on a node of a Ray cluster: what it is sent, what it sends back. No path is shared with the driver.

All files of a job lie in a scratch directory of its process, laid out like a run directory.
"""

import asyncio
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from inklab.errors import CorruptFileError
from inklab.hardware import disable_malloc_trim
from inklab.io.files import make_dir, write_atomic
from inklab.records.execution import NetworkTraits
from inklab.records.status import Draft
from inklab.study.executor import Message, MessageReporter, run_attempt
from inklab.study.executors.node_facts import NodeFacts
from inklab.study.jobs import Done, Job, JobContext, array_path
from inklab.study.run_directory import CHECKPOINTS
from inklab.training.checkpoint_files import PackedCheckpoint
from inklab.usercode import install_live, relocate, source_sha256

SCRATCH_MIN_AGE_SECONDS = 60.0  # of a directory that nobody holds: one that is just being made is not deleted

Files = tuple[tuple[str, bytes], ...]
"""Files of a folder: relative path and content."""

Arrays = Mapping[tuple[str, str], np.ndarray]
"""The images and labels of a run, by split and array."""


@dataclass(frozen=True)
class UserFile:
    """A file of the user's with the modules beside it, for nodes that do not have it.

    Attributes:
        path: where it lies on the driver's machine.
        sha256: of all of them.
        files: their bytes, relative to the file's folder.
    """

    path: str
    sha256: str
    files: Files


@dataclass(frozen=True)
class RemoteTask:
    """One attempt at a job.

    Attributes:
        attempt: its number, which is the name of its directory.
        checkpoints: of earlier attempts, by the number of the attempt.
        models: the files of trained models by trial; a job gets those that it depends on.
        expected: facts that the node must have.
    """

    job: Job
    attempt: int
    context: JobContext
    checkpoints: tuple[tuple[str, PackedCheckpoint], ...]
    user_files: tuple[UserFile, ...]
    expected: NodeFacts


@dataclass(frozen=True)
class Arrived:
    """A worker has begun.

    Attributes:
        node: id of its node.
        log: file of that node with what the worker prints; "" where it is not known.
    """

    node: str
    log: str


@dataclass(frozen=True)
class Finished:
    """A job is done.

    Attributes:
        files: of its drafts, by their path in the directory of the attempt.
        traits: as of `Done`.
    """

    drafts: tuple[Draft, ...]
    files: Files
    traits: NetworkTraits | None


@dataclass(frozen=True)
class NodeDiffers:
    """The node computes other numbers than the run expects, so nothing was computed."""

    differences: str


Payload = Message | Arrived | Finished | NodeDiffers | PackedCheckpoint


@dataclass(frozen=True)
class Letter:
    """What a worker sends, and of which attempt: those of earlier ones are ignored."""

    job: str
    attempt: int
    payload: Payload


class Mailbox:
    """An actor on the driver's node: what workers send is safe there, whatever becomes of their nodes."""

    def __init__(self) -> None:
        self._letters: list[Letter] = []
        self._arrived, self._stop = asyncio.Event(), asyncio.Event()

    async def put(self, letter: Letter) -> None:
        """Accept a letter."""
        self._letters.append(letter)
        self._arrived.set()

    async def take(self) -> list[Letter]:
        """The letters that have arrived; waits for the first."""
        await self._arrived.wait()
        self._arrived.clear()
        letters, self._letters = self._letters, []
        return letters

    async def wake(self) -> None:
        """End the call that waits for letters."""
        self._arrived.set()

    async def stop(self) -> None:
        """Ask all trainings to stop."""
        self._stop.set()

    async def wait_for_stop(self) -> None:
        """Return when trainings are to stop."""
        await self._stop.wait()


# ---------------------------------------------------------------- in the worker


class MailReporter(MessageReporter):
    """Connects a job with the driver of the run, through its mailbox."""

    def __init__(self, task: RemoteTask, mailbox: Any, checkpoints: Path) -> None:
        super().__init__(task.job)
        self._attempt, self._mailbox, self._checkpoints = task.attempt, mailbox, checkpoints
        self._stop = mailbox.wait_for_stop.remote()

    def send(self, message: Payload) -> None:
        """Send something; return when it is safe in the mailbox, so letters arrive in their order."""
        import ray

        ray.get(self._mailbox.put.remote(Letter(self.job.name, self._attempt, message)))

    def checkpoint_written(self, path: Path) -> None:
        """Send a checkpoint, so that the loss of this node costs no more than the time since then."""
        self.send(PackedCheckpoint.of(path, self._checkpoints))

    def stop_requested(self) -> bool:
        """Whether the mailbox was asked to stop all trainings."""
        import ray

        return bool(ray.wait([self._stop], timeout=0)[0])


def run_remote_job(task: RemoteTask, arrays: Arrays, mailbox: Any, *models: Files) -> None:
    """Run a job; everything that comes of it goes into the mailbox. The function that Ray calls."""
    import ray

    disable_malloc_trim()
    node = ray.get_runtime_context().get_node_id()
    with _scratch_directory() as scratch:
        attempt_dir = scratch / "work" / "job" / str(task.attempt)
        reporter = MailReporter(task, mailbox, attempt_dir / CHECKPOINTS)
        reporter.send(Arrived(node, _log_file()))
        if differences := NodeFacts.current().differences(task.expected):
            reporter.send(NodeDiffers(differences))
            return
        context = replace(task.context, run_path=scratch)
        _write_inputs(task, context, arrays, models)
        install_live(dict(context.live_objects))
        message: Payload = run_attempt(task.job, attempt_dir, context, reporter)
        if isinstance(message, Done):
            message = Finished(message.drafts, _files_of_drafts(message), message.traits)
        sys.stdout.flush()
        reporter.send(message)


def node_facts() -> NodeFacts:
    """Facts of the node that runs this."""
    return NodeFacts.current()


def pack_folder(folder: Path, below: Path) -> Files:
    """The files in a folder, with paths relative to `below`."""
    paths = sorted(path for path in folder.rglob("*") if path.is_file())
    return tuple((path.relative_to(below).as_posix(), path.read_bytes()) for path in paths)


def unpack_files(files: Files, folder: Path, allowed: tuple[str, ...] = ("",)) -> None:
    """Write files below a folder.

    Args:
        files: their paths and contents.
        folder: it need not exist.
        allowed: a path must begin with one of these.

    Raises:
        CorruptFileError: a path leads out of the folder, or to where it is not allowed.
        WriteError: the disk refuses.
    """
    for name, content in files:
        parts = PurePosixPath(name).parts
        if not parts or parts[0] == "/" or ".." in parts or not name.startswith(allowed):
            raise CorruptFileError(f"its worker sent a file for '{name}', which is not part of its result")
        write_atomic(folder.joinpath(*parts), content)


def _files_of_drafts(done: Done) -> Files:
    files: list[tuple[str, bytes]] = []
    for draft in done.drafts:
        files += pack_folder(done.attempt_dir / draft.kind / draft.id, done.attempt_dir)
    return tuple(files)


def _write_inputs(task: RemoteTask, context: JobContext, arrays: Arrays, models: tuple[Files, ...]) -> None:
    """Write what the job reads into the scratch directory: images, models, checkpoints, the user's files."""
    for (split, array), values in arrays.items():
        path = array_path(context.run_directory, split, array)
        path.parent.mkdir(parents=True, exist_ok=True)
        np.save(path, values, allow_pickle=False)  # not durable: it is of use to this process only
    for files in models:
        unpack_files(files, context.run_path)
    for attempt, checkpoint in task.checkpoints:
        checkpoint.write(context.run_path / "work" / "job" / attempt / CHECKPOINTS)
    make_dir(context.run_path / "work" / "job" / str(task.attempt))
    for number, file in enumerate(task.user_files):
        with suppress(Exception):  # not there, or unreadable
            if source_sha256(f"{file.path}:_") == file.sha256:
                continue
        folder = context.run_path / "code" / str(number)
        unpack_files(file.files, folder)
        relocate(file.path, folder / Path(file.path).name)


def _log_file() -> str:
    """The file that this process prints to; "" where the system does not tell."""
    with suppress(OSError):
        path = Path("/proc/self/fd/2").resolve()
        return str(path) if path.is_file() else ""
    return ""


@contextmanager
def _scratch_directory() -> Iterator[Path]:
    """A directory for one job. Those that killed workers left behind are deleted by the next one."""
    from filelock import FileLock, Timeout

    for lock in Path(tempfile.gettempdir()).glob("inklab-job-*/lock"):
        with suppress(Timeout, OSError):
            if lock.stat().st_mtime < time.time() - SCRATCH_MIN_AGE_SECONDS:
                with FileLock(lock, blocking=False):
                    shutil.rmtree(lock.parent, ignore_errors=True)
    path = Path(tempfile.mkdtemp(prefix="inklab-job-"))
    with FileLock(path / "lock"):
        try:
            yield path
        finally:
            shutil.rmtree(path, ignore_errors=True)

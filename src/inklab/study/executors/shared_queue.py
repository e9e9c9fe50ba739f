"""A queue of jobs in a directory that several machines share: jobs to workers, messages back.

It relies on renaming and linking only, which are atomic on network file systems, too: locks and clocks are
not reliable there. Its files are pickles. The directory is made by the process that drives the run, under a
name that is drawn at random and for its user only, and nothing is read from any other: what a copied run
directory holds is never restored.
"""

import os
import pickle
import secrets
import shutil
import stat
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from inklab.errors import WriteError
from inklab.io.files import make_dir
from inklab.study.executors.node_facts import NodeFacts
from inklab.study.jobs import Job

PREFIX = "queue-"
OFFERED, CLAIMED, SENT, STOP, BEAT, FACTS = "offered", "claimed", "sent", "stop", "beat", "facts"


@dataclass(frozen=True)
class SharedQueue:
    """Jobs of one session of a run, and what its workers send.

    A job's number says when it was offered; a worker's name has no dot.
    """

    path: Path

    @classmethod
    def create(cls, work_dir: Path) -> "SharedQueue":
        """Make an empty queue below a directory; those that killed sessions left are deleted.

        Raises:
            WriteError: the disk refuses.
        """
        for old in work_dir.glob(f"{PREFIX}*"):
            shutil.rmtree(old, ignore_errors=True)  # workers that still look into it end
        queue = cls(work_dir / f"{PREFIX}{secrets.token_hex(8)}")
        try:
            make_dir(work_dir)
            queue.path.mkdir(mode=0o700)
            for name in (OFFERED, CLAIMED, SENT):
                (queue.path / name).mkdir()
        except OSError as error:
            raise WriteError(queue.path, error) from error
        return queue

    def delete(self) -> None:
        """Delete the queue; workers that still look into it end."""
        shutil.rmtree(self.path, ignore_errors=True)

    # ------------------------------------------------------------ jobs

    def offer(self, number: int, job: Job) -> None:
        """Offer a job to all workers. Raises WriteError."""
        self._write(OFFERED, f"{number:08d}", job)

    def claim(self, worker: str) -> tuple[int, Job] | None:
        """Take the first job that is offered, with its number; None if there is none.

        Raises:
            WriteError: the disk refuses.
        """
        for name in self._list(OFFERED):
            claimed = self.path / CLAIMED / f"{name}.{worker}"
            try:
                os.rename(self.path / OFFERED / name, claimed)
                return int(name), pickle.loads(claimed.read_bytes())  # of this session, see above
            except FileNotFoundError:  # another worker was faster, or the session has ended
                continue
            except OSError as error:
                raise WriteError(claimed, error) from error
        return None

    def withdraw(self) -> None:
        """Offer no job any more."""
        for name in self._list(OFFERED):
            with suppress(OSError):
                (self.path / OFFERED / name).unlink()

    def claims(self) -> Iterator[tuple[int, str]]:
        """The number of each job that a worker has claimed and that has not been released, and its worker."""
        for name in self._list(CLAIMED):
            number, _, worker = name.partition(".")
            yield int(number), worker

    def release(self, number: int, worker: str) -> None:
        """Forget a claim: the job has ended, or its worker has."""
        with suppress(OSError):
            (self.path / CLAIMED / f"{number:08d}.{worker}").unlink()

    # ------------------------------------------------------------ messages

    def send(self, worker: str, count: int, message: object) -> None:
        """Send the message number `count` of a worker. Raises WriteError."""
        self._write(SENT, f"{worker}.{count:08d}", message)

    def receive(self) -> list[tuple[str, Any]]:
        """What workers have sent since the last call, those of each in its order, with their names."""
        messages = []
        for name in self._list(SENT):
            path = self.path / SENT / name
            with suppress(FileNotFoundError):
                messages.append((name.partition(".")[0], pickle.loads(path.read_bytes())))
                path.unlink()
        return messages

    # ------------------------------------------------------------ the session

    def stop(self) -> None:
        """Ask all workers to end, trainings with a checkpoint."""
        self.withdraw()
        with suppress(OSError):
            (self.path / STOP).touch()

    @property
    def has_stopped(self) -> bool:
        """Whether workers are to end."""
        return (self.path / STOP).exists() or not self.path.is_dir()

    def beat(self, count: int) -> None:
        """Show workers that the process that drives the run lives: by another number each time."""
        self._write("", BEAT, count)

    @property
    def last_beat(self) -> bytes:
        """What `beat` has written."""
        with suppress(OSError):
            return (self.path / BEAT).read_bytes()
        return b""

    def agree(self, facts: NodeFacts) -> NodeFacts:
        """The facts of the worker that asked first: all that is computed in this session has these."""
        path = self.path / FACTS
        draft = self.path / f".{secrets.token_hex(8)}"
        try:
            draft.write_bytes(pickle.dumps(facts))
            with suppress(FileExistsError):
                os.link(draft, path)
            draft.unlink()
            agreed: NodeFacts = pickle.loads(path.read_bytes())
        except OSError as error:
            raise WriteError(path, error) from error
        return agreed

    # ------------------------------------------------------------ files

    def _write(self, folder: str, name: str, value: object) -> None:
        """Write a file whole. It need not survive a power loss: it is of use to this session only."""
        path = self.path / folder / name
        draft = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
        try:
            draft.write_bytes(pickle.dumps(value))
            os.replace(draft, path)
        except OSError as error:
            raise WriteError(path, error) from error

    def _list(self, folder: str) -> list[str]:
        """The names of the files that are whole, in their order."""
        path = self.path / folder
        try:
            os.chmod(path, stat.S_IMODE(path.stat().st_mode))  # makes NFS look, not answer from its cache
            return sorted(name for name in os.listdir(path) if not name.startswith("."))
        except FileNotFoundError:  # the session has ended
            return []

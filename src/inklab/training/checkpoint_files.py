"""The files of checkpoints: which are complete, which are deleted, how they travel. Imports no torch.

What they hold is the subject of `inklab.training.checkpoint`.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from shutil import rmtree

from inklab.errors import CorruptFileError
from inklab.io.files import read_bytes_capped, write_atomic
from inklab.io.tensor_file import MAX_FILE_BYTES

TENSORS_FILE, STATE_FILE, COMMIT_FILE = "state.safetensors", "state.json", "commit.json"
"""In the order in which they are written: the last one marks a checkpoint as complete."""

KEPT_CHECKPOINTS = 2


@dataclass(frozen=True)
class PackedCheckpoint:
    """A complete checkpoint as bytes, to be sent to another machine.

    Attributes:
        path: its directory, relative to that of all checkpoints of an attempt, such as "000002-000000031".
        files: the bytes of each file by name.
    """

    path: str
    files: tuple[tuple[str, bytes], ...]

    @classmethod
    def of(cls, path: Path, folder: Path) -> "PackedCheckpoint":
        """The checkpoint in `path`, which lies below `folder`.

        Raises:
            DataError: a file can't be read.
            FileNotFoundError: it was deleted meanwhile.
        """
        names = (TENSORS_FILE, STATE_FILE, COMMIT_FILE)
        files = tuple((name, read_bytes_capped(path / name, MAX_FILE_BYTES)) for name in names)
        return cls(path.relative_to(folder).as_posix(), files)

    def write(self, folder: Path) -> Path:
        """Write it below `folder`, complete only with its last file; the directory.

        Raises:
            CorruptFileError: its path or a file leads out of the folder.
            WriteError: the disk refuses.
        """
        parts = PurePosixPath(self.path).parts
        if not parts or parts[0] == "/" or ".." in parts:
            raise CorruptFileError(f"a checkpoint at '{self.path}' is outside of its attempt")
        path = folder.joinpath(*parts)
        (path / COMMIT_FILE).unlink(missing_ok=True)  # the same one again: incomplete until it is written
        files = dict(self.files)
        for name in (TENSORS_FILE, STATE_FILE, COMMIT_FILE):
            if name not in files:
                raise CorruptFileError(f"the checkpoint at '{self.path}' has no {name}")
            write_atomic(path / name, files[name])
        return path


def list_checkpoints(folders: Iterable[Path]) -> list[Path]:
    """The complete checkpoints in some folders; their names sort by progress."""
    return sorted(path.parent for folder in folders for path in folder.glob(f"*/{COMMIT_FILE}"))


def prune_checkpoints(folder: Path, earlier_attempts: Iterable[Path] = ()) -> bool:
    """Delete all but the last two checkpoints in a folder; if it has two, those of earlier attempts, too.

    So the disk does not fill with every stop, and there are never fewer than two to continue from.

    Returns:
        Whether those of earlier attempts are deleted.
    """
    kept = list_checkpoints([folder])
    for path in kept[:-KEPT_CHECKPOINTS]:
        delete_checkpoint(path)
    if len(kept) < KEPT_CHECKPOINTS:
        return False
    for path in list_checkpoints(earlier_attempts):
        delete_checkpoint(path)
    return True


def delete_checkpoint(path: Path) -> None:
    """Delete a checkpoint; if that is cut off, what remains is not complete."""
    (path / COMMIT_FILE).unlink(missing_ok=True)
    rmtree(path, ignore_errors=True)

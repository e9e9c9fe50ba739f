"""Every error that a user can meet, and the exit code it ends a command with.

InklabError                 exit 2: a mistake in what was typed or in a study file
├── SpecError               a study, recipe or model description is wrong
│   └── UnknownName         ...because it names something that does not exist
├── ModelMismatch           a module does not fit its objective or its images
├── RunError                a run folder is missing, locked, or not a run
├── Unwritable              the file system refuses to keep something; exit 5 if the disk is full or failing
└── DataError               exit 4: images are not what they should be
    ├── CorruptFile         ...the bytes are damaged, cut short, or differ from the published checksum
    ├── Unavailable         ...they can't be had here (no file, no network)
    └── OutOfRange          ...a value lies outside its stated range
"""

import errno
import os
from collections.abc import Iterable
from difflib import get_close_matches

MAX_NAME_LENGTH = 100  # characters of a name that are told

EXIT_OK = 0
EXIT_INTERNAL = 1
EXIT_USAGE = 2
EXIT_FAILED_TRIALS = 3
EXIT_DATA = 4
EXIT_INTERRUPTED = 5


class InklabError(Exception):
    """A problem told in one line: what was given, what is allowed, the nearest right name, what to do."""

    exit_code = EXIT_USAGE

    def __str__(self) -> str:
        return " ".join(super().__str__().split())  # names from foreign files may hold line breaks


class ConfigError(InklabError):
    """A study, recipe or network description is wrong.

    Args:
        message: one line.
        key: what is wrong: a dotted key, or a name that nothing has.
        suggestion: the nearest valid key, name or value; "" if none is near.
    """

    def __init__(self, message: str, *, key: str = "", suggestion: str = "") -> None:
        super().__init__(message)
        self.key, self.suggestion = key, suggestion


class UnknownNameError(ConfigError):
    """A name that nothing is registered under.

    Example:
        >>> print(UnknownNameError("corruption", "shott", ["salt_and_pepper", "shot"]))
        no corruption is called 'shott'. Did you mean 'shot'? Known: salt_and_pepper, shot.
    """

    def __init__(self, kind: str, name: str, known: Iterable[str]) -> None:
        known = sorted(known)
        shown = name if len(name) <= MAX_NAME_LENGTH else name[: MAX_NAME_LENGTH - 3] + "..."
        super().__init__(
            f"no {kind} is called '{shown}'.{did_you_mean(name, known)} Known: {', '.join(known)}.",
            key=name,
            suggestion=nearest_name(name, known),
        )


class ModelMismatchError(InklabError):
    """A module's input, output or behaviour does not fit what it is to be trained for."""


class RunError(InklabError):
    """A run folder is missing, in use, or is not a run."""


DISK_ERRNOS = {
    errno.ENOSPC: "make room on that disk",
    errno.EDQUOT: "make room within your quota",
    errno.EIO: "that disk fails: copy what is on it to another",
}
"""What stops a run that was rightly asked for, and what to do about it."""


class WriteError(InklabError, OSError):
    """The file system refuses to keep a file; nothing that was there before is lost.

    Args:
        path: what was to be written.
        error: what the system said.
    """

    def __init__(self, path: os.PathLike[str], error: OSError) -> None:
        number = error.errno or 0
        trouble = DISK_ERRNOS.get(number)
        advice = f"{trouble}, then inklab resume goes on" if trouble else "name a place that you may write to"
        super().__init__(f"'{path}' can't be written: {error.strerror or error}; {advice}")
        self.errno, self.filename = number, str(path)
        self.exit_code = EXIT_INTERRUPTED if trouble else EXIT_USAGE

    def __str__(self) -> str:
        return str(self.args[0])


class DataError(InklabError):
    """Images or labels are not what they should be."""

    exit_code = EXIT_DATA


class CorruptFileError(DataError):
    """A file is damaged, cut short, hostile, or not the published one."""


class DatasetUnavailableError(DataError):
    """A source can't be had here.

    Args:
        message: what was tried, and how to help.
        reason: why, in a few words, for whoever can go on without it.
    """

    def __init__(self, message: str, reason: str = "") -> None:
        super().__init__(message)
        self.reason = reason or message


class OutOfRangeError(DataError):
    """A value lies outside its stated range."""


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """The hint ` Did you mean 'x'?` for the nearest known name, or nothing.

    Example:
        >>> did_you_mean("epoch", ["epochs", "batch"])
        " Did you mean 'epochs'?"
    """
    nearest = nearest_name(name, known)
    return f" Did you mean '{nearest}'?" if nearest else ""


def nearest_name(name: str, known: Iterable[str]) -> str:
    """The known name that is spelled most like a given one; "" if none is near.

    Example:
        >>> nearest_name("epoch", ["epochs", "batch_size"]), nearest_name("x", ["epochs"])
        ('epochs', '')
    """
    return next(iter(get_close_matches(name, list(known), n=1)), "")

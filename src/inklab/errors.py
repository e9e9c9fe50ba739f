"""Every error that a user can meet, and the exit code of the command that it ends.

InklabError                     exit 2: wrong usage or a wrong study file
├── ConfigError                 a study, recipe or network description is wrong
│   └── UnknownNameError        ...because it names something that does not exist
├── ModelMismatchError          a module does not fit its objective or its images
├── RunError                    a run directory is missing, in use, or not a run
├── WriteError                  a file can't be written; exit 5 if the disk is full or failing
└── DataError                   exit 4: images or files are not what they should be
    ├── CorruptFileError        ...a file is damaged, truncated, or differs from its published checksum
    ├── DatasetUnavailableError ...a dataset can't be obtained here (no file, no network)
    └── OutOfRangeError         ...a value is outside its documented range
"""

import errno
import os
from collections.abc import Iterable
from difflib import get_close_matches

MAX_NAME_LENGTH = 100  # characters of an unknown name in a message
SYNONYMS = {
    "lr": "learning_rate", "wd": "weight_decay", "filters": "channels", "units": "hidden",
    "seeds": "replicates", "repeats": "replicates", "optim": "optimizer",
    "bs": "batch_size", "gpu": "cuda",
}  # fmt: skip
"""Other tools' names, and what they are called here."""

MIN_PREFIX = 3  # characters that make the beginning of a name a hint
MAX_MESSAGE_LENGTH = 3_000  # characters of a whole message

EXIT_OK = 0
EXIT_INTERNAL = 1
EXIT_USAGE = 2
EXIT_FAILED_TRIALS = 3
EXIT_DATA = 4
EXIT_INTERRUPTED = 5


class InklabError(Exception):
    """A problem in one line: what was given, what is allowed, the nearest valid name, what to do.

    Args:
        message: the problem in one line.
        key: what is wrong: a dotted key such as "recipe.learning_rate", or a name that does not exist.
        suggestion: the nearest valid key, name or value; "" if none is near.
    """

    exit_code = EXIT_USAGE

    def __init__(self, message: str, *, key: str = "", suggestion: str = "") -> None:
        super().__init__(message)
        self.key, self.suggestion = key, suggestion

    def __str__(self) -> str:
        """The message in one line that can be read.

        Names and values in files from elsewhere may have line breaks or be as long as the file, also in what
        a library says about them; the advice at the end stays.
        """
        line = " ".join(super().__str__().split())
        return line if len(line) <= MAX_MESSAGE_LENGTH else f"{line[:1_500]} ... {line[-400:]}"


class ConfigError(InklabError):
    """A study, recipe or network description is wrong."""


class UnknownNameError(ConfigError):
    """A name that does not exist.

    Args:
        kind: what it should name, such as "corruption".
        name: as it was given.
        known: all valid names.

    Example:
        >>> error = UnknownNameError("corruption", "shott", ["salt_and_pepper", "shot"])
        >>> print(error)
        no corruption is called 'shott'. Did you mean 'shot'? Known: salt_and_pepper, shot.
        >>> error.key, error.suggestion
        ('shott', 'shot')
    """

    def __init__(self, kind: str, name: str, known: Iterable[str]) -> None:
        known = sorted(known)
        short = name if len(name) <= MAX_NAME_LENGTH else name[: MAX_NAME_LENGTH - 3] + "..."
        hint, listing = did_you_mean(name, known), ", ".join(known) or "(none)"
        message = f"no {kind} is called '{short}'.{hint} Known: {listing}."
        super().__init__(message, key=name, suggestion=nearest_name(name, known))


class ModelMismatchError(InklabError):
    """A module's input, output or behavior does not fit what it is trained for."""


class RunError(InklabError):
    """A run directory is missing, in use, or not a run."""


DISK_ERRNOS = {
    errno.ENOSPC: "make room on that disk",
    errno.EDQUOT: "make room within your quota",
    errno.EIO: "that disk is failing: copy its files to another one",
}
"""Failures of the disk, which interrupt a correct run, and what to do about them."""


class WriteError(InklabError, OSError):
    """A file can't be written; no earlier file is lost.

    Args:
        path: the file.
        error: what the operating system reported.
    """

    def __init__(self, path: os.PathLike[str], error: OSError) -> None:
        number = error.errno or 0
        remedy = DISK_ERRNOS.get(number)
        advice = f"{remedy}, then run inklab resume" if remedy else "name a directory that you may write to"
        super().__init__(f"'{path}' can't be written: {error.strerror or error}; {advice}")
        self.errno, self.filename = number, str(path)
        self.exit_code = EXIT_INTERRUPTED if remedy else EXIT_USAGE

    def __str__(self) -> str:
        return str(self.args[0])


class DataError(InklabError):
    """Images, labels or files are not what they should be."""

    exit_code = EXIT_DATA


class CorruptFileError(DataError):
    """A file is damaged, truncated, malicious, or not the published one."""


class DatasetUnavailableError(DataError):
    """A dataset can't be obtained here.

    Args:
        message: what was tried, and what to do.
        reason: why, in a few words, for callers that use another dataset instead.
    """

    def __init__(self, message: str, reason: str = "") -> None:
        super().__init__(message)
        self.reason = reason or message


class OutOfRangeError(DataError):
    """A value is outside its documented range."""


def nearest_name(name: str, known: Iterable[str]) -> str:
    """The valid name that is nearest to a misspelled one; "" if none is near.

    What other tools call so, such as `learning_rate` for `lr`, is nearer than any other; then the only one
    that begins like it, such as `salt_and_pepper` for `salt`.

    Example:
        >>> nearest_name("epoch", ["epochs", "batch_size"]), nearest_name("x", ["epochs"])
        ('epochs', '')
    """
    names = list(known)
    if SYNONYMS.get(name) in names:
        return SYNONYMS[name]
    longer = [other for other in names if len(name) >= MIN_PREFIX and other.startswith(name)]
    return longer[0] if len(longer) == 1 else next(iter(get_close_matches(name, names, n=1)), "")


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """The hint ` Did you mean 'x'?` for the nearest valid name, or "".

    Example:
        >>> did_you_mean("epoch", ["epochs", "batch_size"])
        " Did you mean 'epochs'?"
    """
    nearest = nearest_name(name, known)
    return f" Did you mean '{nearest}'?" if nearest else ""


def format_error(error: BaseException) -> str:
    r"""An error raised by third-party code, in one line.

    Example:
        >>> format_error(ValueError("no\n  such thing"))
        'ValueError: no such thing'
    """
    return f"{type(error).__name__}: {' '.join(str(error).split())}"

"""Python objects of this session that a study refers to, such as a network class of a notebook.

Their references, such as `live:Net@3f9a2c01d4e5b677`, take the place of a name in every record. The objects
themselves travel to workers through a pipe, or in a file that the session itself has made and that only its
user can read (`study/executors/shared_queue.py`).
"""

import pickle
import re
import secrets
import sys
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from inklab.errors import ConfigError, format_error
from inklab.io.files import sha256_of
from inklab.object_identity import ObjectIdentity, UnknownIdentityError

REFERENCE = re.compile(r"live:[^@\s]+@(unknown-[0-9a-f]{8}|[0-9a-f]{16})")
MAX_NAME_LENGTH = 100  # characters of an object's name in a reference


@dataclass(frozen=True)
class LiveObject:
    """An object of this session.

    Attributes:
        value: the object.
        sha256: its identity.
        problem: why its identity can't be established; "" if it is.
        modules: names of the user's own modules that its code comes from.
    """

    value: object
    sha256: str
    problem: str = ""
    modules: frozenset[str] = frozenset()


_objects: dict[str, LiveObject] = {}
_pickles: dict[str, bytes] = {}  # in a worker: objects that have not been needed yet


def is_live(name: str) -> bool:
    """Whether a name is a reference that `register_live` gave."""
    return REFERENCE.fullmatch(name) is not None


def register_live(value: object) -> str:
    """Make a class, a function or a factory of this session known, so that a study can refer to it.

    Its identity is its source and all that this refers to: defaults, closure, globals, base classes; numbers,
    strings and containers by value, arrays by their bytes, libraries by name and version. The same code, also
    in another session, gets the same reference.

    Returns:
        Its name and the first half of its identity. If that can't be established, because it refers to an
        open file, say, a reference that no other session gives.

    Example:
        >>> def make(width):
        ...     return width
        >>> register_live(make) == register_live(make), is_live(register_live(make))
        (True, True)
    """
    label = _label(value)
    try:
        identity = ObjectIdentity(value)
    except UnknownIdentityError as error:
        return _register_unknown(value, label, str(error))
    name = f"live:{label}@{identity.sha256[:16]}"
    _objects[name] = LiveObject(value, identity.sha256, modules=frozenset(identity.modules))
    return name


def _register_unknown(value: object, label: str, problem: str) -> str:
    for name, entry in _objects.items():
        if entry.value is value and entry.problem:
            return name
    name = f"live:{label}@unknown-{secrets.token_hex(4)}"
    _objects[name] = LiveObject(value, sha256_of(name.encode()), problem)
    return name


def _label(value: object) -> str:
    named = value
    while not hasattr(named, "__qualname__"):
        named = getattr(named, "func", type(named))  # of a partial
    label = str(named.__qualname__).rpartition("<locals>.")[2].strip("<>")
    return re.sub(r"[@\s]+", "-", label)[:MAX_NAME_LENGTH] or "object"


def _name_of(name: str) -> str:
    return name.removeprefix("live:").partition("@")[0]


def live_object(name: str) -> Any:
    """The object behind a reference.

    Raises:
        ConfigError: it is not of this session, or can't be restored in a worker.
    """
    return _entry(name).value


def is_known(name: str) -> bool:
    """Whether the object behind a reference is of this session, or was sent to it."""
    return name in _objects or name in _pickles


def live_sha256(name: str) -> str:
    """The identity of the object behind a reference. Raises ConfigError: it is not of this session."""
    return _entry(name).sha256


def live_problem(name: str) -> str:
    """Why the identity of an object can't be established; "" if it is."""
    return _entry(name).problem


def _entry(name: str) -> LiveObject:
    if name not in _objects and name in _pickles:
        try:
            value, sha256 = pickle.loads(_pickles[name])  # through the pipe of this worker's own parent
        except Exception as error:  # whatever a class raises while it is made
            raise ConfigError(
                f"'{_name_of(name)}' can't be restored in a worker process: {format_error(error)}", key=name
            ) from error
        _objects[name] = LiveObject(value, sha256)
    if name not in _objects:
        raise ConfigError(
            f"'{_name_of(name)}' is an object of another Python session; run the cell or script again that "
            "trained with it: the same code goes on where it stopped",
            key=name,
        )
    return _objects[name]


# ---------------------------------------------------------------- workers


def pickle_live(names: Iterable[str]) -> dict[str, bytes]:
    """The objects behind references, for workers.

    Raises:
        ConfigError: an object can't be pickled, has changed since, or is not of this session.
    """
    return {name: _pickle(name, _entry(name)) for name in names}


def install_live(pickles: Mapping[str, bytes]) -> None:
    """Make objects of the process that started this one known; each is restored when it is needed."""
    _pickles.update(pickles)


def _pickle(name: str, entry: LiveObject) -> bytes:
    import cloudpickle  # 30 ms

    if not entry.problem and ObjectIdentity(entry.value).sha256 != entry.sha256:
        raise ConfigError(
            f"what '{_name_of(name)}' refers to has changed since the study was made; make the study again",
            key=name,
        )
    try:
        with _by_value(entry.modules):
            return bytes(cloudpickle.dumps((entry.value, entry.sha256)))
    except Exception as error:  # whatever an object raises while it is pickled
        raise ConfigError(
            f"'{_name_of(name)}' can't be sent to worker processes: {format_error(error)}; make what it "
            "needs inside it, or put it into a file and write file.py:Name",
            key=name,
        ) from error


@contextmanager
def _by_value(modules: Iterable[str]) -> Iterator[None]:
    """Let code of modules that a worker would not find travel as a whole, as that of `__main__` does."""
    import cloudpickle

    lost = [sys.modules[name] for name in modules if name in sys.modules and not _is_found(name)]
    for module in lost:
        cloudpickle.register_pickle_by_value(module)
    try:
        yield
    finally:
        for module in lost:
            cloudpickle.unregister_pickle_by_value(module)


def _is_found(name: str) -> bool:
    """Whether a fresh process with the same search path imports the same file."""
    if name == "__main__":
        return True
    top = name.partition(".")[0]
    specs = (finder.find_spec(top, None) for finder in sys.meta_path)
    spec = next((spec for spec in specs if spec), None)
    return spec is not None and spec.origin == getattr(sys.modules.get(top), "__file__", None)

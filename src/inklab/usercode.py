"""A user's own code, used only when the user names it (`my_net.py:Net`) or hands it over as an object."""

import contextlib
import hashlib
import importlib.util
import io
import os
import sys
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

from inklab.errors import ConfigError, did_you_mean, format_error, nearest_name
from inklab.imported_files import modules_beside, sha256_behind
from inklab.live_objects import install_live as install_live
from inklab.live_objects import is_known as is_known
from inklab.live_objects import is_live as is_live
from inklab.live_objects import live_object, live_problem, live_sha256, register_live
from inklab.live_objects import pickle_live as pickle_live

_importing = threading.RLock()  # an import changes the search path
_copies: dict[str, Path] = {}  # of a user's files, on a machine that does not have them


def is_user_code(name: str) -> bool:
    """Whether a name refers to a user's own file or to an object of this session.

    Example:
        >>> is_user_code("my_net.py:Net"), is_user_code("live:Net@3f9a2c01d4e5b677"), is_user_code("mlp")
        (True, True, False)
    """
    path, _, attribute = name.rpartition(":")
    return is_live(name) or (path.endswith(".py") and attribute.isidentifier())


def reference(value: object) -> str:
    """How records refer to something of the user's: a name as it is, a class or function by `register_live`.

    Raises:
        ConfigError: it is neither.
    """
    if isinstance(value, str):
        return value
    if callable(value):
        return register_live(value)
    raise ConfigError(
        f"{value!r:.60} is of type {type(value).__name__}; give a registered name, file.py:Name, a class or "
        "a function"
    )


def short_name(name: str) -> str:
    """What people call it, without folder and identity.

    Example:
        >>> short_name("live:Net@3f9a2c01d4e5b677"), short_name("/home/me/net.py:Net"), short_name("mlp")
        ('Net', 'net.py:Net', 'mlp')
    """
    if is_live(name):
        return name.removeprefix("live:").partition("@")[0]
    return name.replace("\\", "/").rpartition("/")[2] if is_user_code(name) else name


def require_function(name: str, value: object, expected: str) -> Callable[..., Any]:
    """The value itself, if it is a function; a class or a number is refused.

    Args:
        name: what the user calls it.
        value: the object.
        expected: what it should be, such as "a filter is a function from images to images".

    Raises:
        ConfigError: it can't be called, or is a class.
    """
    if not callable(value) or isinstance(value, type):
        raise ConfigError(f"'{short_name(name)}' is no function; {expected}", key=name)
    return value


def location_free(name: str) -> str:
    """A name that is the same wherever a user's file lies: its own name and its content; others stay.

    Raises:
        ConfigError: there is no such file.
    """
    if is_live(name) or not is_user_code(name):
        return name
    return f"{short_name(name)}@{source_sha256(name)[:16]}"


def names_in(text: str) -> list[str]:
    """The names in a string of a study: those of a pipeline with filters of the user's own, else itself.

    Example:
        >>> names_in("my_filters.py:sharpen+cnn"), names_in("c++/net.py:Net"), names_in("denoiser+cnn")
        (['my_filters.py:sharpen', 'cnn'], ['c++/net.py:Net'], ['denoiser+cnn'])
    """
    parts = [text] if is_user_code(text) else text.split("+")
    return parts if any(map(is_user_code, parts)) else [text]


def map_names(value: Any, rename: Callable[[str], str]) -> Any:
    """JSON values in which every string is renamed, of a pipeline every part.

    Example:
        >>> map_names({"network": {"name": "a"}, "epochs": 3, "samplers": ["b"]}, str.upper)
        {'network': {'name': 'A'}, 'epochs': 3, 'samplers': ['B']}
    """
    if isinstance(value, str):
        return "+".join(map(rename, names_in(value)))
    if isinstance(value, Mapping):
        return {key: map_names(inner, rename) for key, inner in value.items()}
    return [map_names(inner, rename) for inner in value] if isinstance(value, list | tuple) else value


def absolute_name(name: str) -> str:
    """A name that means the same file from every working directory; other names stay."""
    if is_live(name) or not is_user_code(name):
        return name
    path, _, attribute = name.rpartition(":")
    path = os.path.expanduser(path)
    return f"{os.path.abspath(path)}:{attribute}" if os.path.isfile(path) else name


def unknown_note(names: Iterable[str]) -> str:
    """What to know about live objects whose identity can't be established; "" if there are none."""
    problems = {name: live_problem(name) for name in names}
    texts = [f"'{short_name(name)}' ({problem})" for name, problem in problems.items() if problem]
    if not texts:
        return ""
    return (
        f"the code of {' and '.join(texts)} can't be identified, so no other session can resume this run; "
        "training starts from the beginning there"
    )


def source_sha256(name: str) -> str:
    """What a user's code consists of, without running it.

    Returns:
        For `my_net.py:Net` the SHA-256 of the file, and of the modules beside it that it imports, if any. For
        an object of this session its identity.

    Raises:
        ConfigError: there is no such file, or no such object in this session.
    """
    return live_sha256(name) if is_live(name) else sha256_behind(_file_of(name))


def load_object(name: str) -> Any:
    """One object of the user's: of a file, which this runs, or of this session.

    Args:
        name: `path/to/file.py:Name`; a relative path starts at the working directory. While the file is run,
            modules beside it can be imported. Or a reference that `register_live` gave.

    Raises:
        ConfigError: there is no such file, it can't be imported, or it does not define that name; or there is
            no such object in this session.
    """
    if is_live(name):
        return live_object(name)
    path = _file_of(name)
    attribute = name.rpartition(":")[2]
    module = _import(path)
    if not hasattr(module, attribute):
        known = [key for key in vars(module) if not key.startswith("_")]
        raise ConfigError(
            f"'{path}' does not define '{attribute}'.{did_you_mean(attribute, known)}",
            key=attribute,
            suggestion=nearest_name(attribute, known),
        )
    return getattr(module, attribute)


def relocate(path: str, copy: Path) -> None:
    """From now on, take a user's file from a copy: in a worker on a machine that does not have it."""
    _copies[path] = copy


def _file_of(name: str) -> Path:
    path = Path(os.path.expanduser(name.rpartition(":")[0]))
    path = _copies.get(str(path), path)
    if not os.path.isfile(path):
        raise ConfigError(
            f"there is no file '{path}' (of '{name}'); write it as path/to/file.py:Name", key=name
        )
    return path.resolve()


def _import(path: Path) -> ModuleType:
    # One module per place and content: a changed file is a new module, an unchanged one is imported once.
    identity = hashlib.sha256(f"{path}\n{sha256_behind(path)}".encode()).hexdigest()[:12]
    key = f"inklab_user_{path.stem}_{identity}"
    with _importing:
        if key in sys.modules:
            return sys.modules[key]
        spec = importlib.util.spec_from_file_location(key, path)
        assert spec and spec.loader
        module = importlib.util.module_from_spec(spec)
        sys.modules[key] = module
        try:
            with _as_script(path):
                spec.loader.exec_module(module)
        except BaseException as error:
            del sys.modules[key]
            if isinstance(error, KeyboardInterrupt):
                raise
            raise ConfigError(f"'{path}' can't be imported: {_reason(error)}") from error
        return module


def _reason(error: BaseException) -> str:
    if not isinstance(error, SystemExit):
        return format_error(error)
    code = "" if error.code is None else f" with '{error.code}'"
    return f"it ends Python{code}; put what reads arguments or exits below if __name__ == '__main__':"


@contextlib.contextmanager
def _as_script(path: Path) -> Iterator[None]:
    """Run a file as if Python had been started with it: its folder is searched first, and no arguments.

    Afterwards nothing of that is left, so two files with modules of the same name beside them do not mix.
    """
    folder, arguments, writes = str(path.parent), sys.argv, sys.dont_write_bytecode
    beside = modules_beside(path)
    hidden = _take_modules(beside)
    before, errors = set(sys.modules), io.StringIO()
    # Python takes a compiled file as current by seconds and size, which two versions of a file may share.
    sys.argv, sys.dont_write_bytecode = [str(path)], True
    sys.path.insert(0, folder)
    importlib.invalidate_caches()
    try:
        with contextlib.redirect_stderr(errors):
            yield
    except SystemExit:  # such as a parser of arguments, which has printed how to use the file
        errors.truncate(0)
        raise
    finally:
        sys.argv, sys.dont_write_bytecode = arguments, writes
        with contextlib.suppress(ValueError):  # what the file itself added stays
            sys.path.remove(folder)
        _take_modules({*beside, *_tops_below(path.parent, set(sys.modules) - before)})
        sys.modules.update(hidden)
        if sys.stderr is not None:
            sys.stderr.write(errors.getvalue())


def _take_modules(tops: "frozenset[str] | set[str]") -> dict[str, ModuleType]:
    """Remove the modules with these top-level names, and return them."""
    names = [name for name in sys.modules if name.partition(".")[0] in tops]
    return {name: sys.modules.pop(name) for name in names}


def _tops_below(folder: Path, names: set[str]) -> set[str]:
    """The top-level names of modules that were found in a folder, also by imports that its text hides."""
    tops = {name.partition(".")[0] for name in names}
    files = {top: getattr(sys.modules.get(top), "__file__", None) for top in tops}
    own = {top: {folder / f"{top}.py", folder / top / "__init__.py"} for top in tops}
    return {top for top, file in files.items() if file and Path(file).resolve() in own[top]} - {"inklab"}

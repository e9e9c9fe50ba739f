"""A user's own code, loaded only when the user names it: `my_net.py:Net`."""

import hashlib
import importlib.util
import os
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

from inklab.errors import ConfigError, did_you_mean, format_error, nearest_name


def is_user_code(name: str) -> bool:
    """Whether a name refers to a user's own file.

    Example:
        >>> is_user_code("my_net.py:Net"), is_user_code("mlp")
        (True, False)
    """
    path, _, attribute = name.rpartition(":")
    return path.endswith(".py") and attribute.isidentifier()


def is_live(name: str) -> bool:
    """Whether a name refers to an object of this Python session."""
    return name.startswith("live:")


def reference(value: object) -> str:
    """How a study refers to something of the user's: its name as it is."""
    if isinstance(value, str):
        return value
    raise ConfigError(f"'{value!r:.60}' is not a name; write a registered name or file.py:Name")


def source_sha256(name: str) -> str:
    """The SHA-256 of the file behind `my_net.py:Net`, without running it.

    Raises:
        ConfigError: there is no such file.
    """
    return hashlib.sha256(_file_of(name).read_bytes()).hexdigest()


def load_object(name: str) -> Any:
    """Import a user's file and return one object of it. This runs the file.

    Args:
        name: `path/to/file.py:Name`; a relative path starts at the working directory.

    Raises:
        ConfigError: there is no such file, it can't be imported, or it does not define that name.
    """
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


def _file_of(name: str) -> Path:
    path = Path(os.path.expanduser(name.rpartition(":")[0]))
    if not os.path.isfile(path):
        raise ConfigError(
            f"there is no file '{path}' (of '{name}'); write it as path/to/file.py:Name", key=name
        )
    return path.resolve()


def _import(path: Path) -> ModuleType:
    # One module per content: a changed file is a new module, an unchanged one is imported once per process.
    key = f"inklab_user_{path.stem}_{hashlib.sha256(path.read_bytes()).hexdigest()[:12]}"
    if key in sys.modules:
        return sys.modules[key]
    spec = importlib.util.spec_from_file_location(key, path)
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules[key] = module
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        del sys.modules[key]
        raise ConfigError(f"'{path}' can't be imported: {format_error(error)}") from error
    return module

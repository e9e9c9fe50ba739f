"""ONNX graphs run by onnxruntime, and the packages that this needs. No torch."""

from collections.abc import Iterable
from importlib.util import find_spec
from typing import Any

import numpy as np

from inklab.errors import CorruptFileError, InklabError

ADVICE = "pip install 'inklab[onnx]'"


def need(*packages: str) -> None:
    """Refuse to go on without some packages. Nothing is imported.

    Args:
        packages: names as they are imported.

    Raises:
        InklabError: one is not installed; it says what to type.

    Example:
        >>> need("json")
        >>> need("json", "tomlkit_")
        Traceback (most recent call last):
        inklab.errors.InklabError: this needs tomlkit_, which isn't installed: pip install 'inklab[onnx]'
    """
    missing = [name for name in packages if not _is_there(name)]
    if missing:
        *others, last = missing
        told, verb = (f"{', '.join(others)} and {last}", "aren't") if others else (last, "isn't")
        raise InklabError(f"this needs {told}, which {verb} installed: {ADVICE}")


def missing(packages: Iterable[str]) -> list[str]:
    """Those of some packages that are not installed. Nothing is imported.

    Example:
        >>> missing(["json", "tomlkit_"])
        ['tomlkit_']
    """
    return [name for name in packages if not _is_there(name)]


def _is_there(name: str) -> bool:
    try:
        return find_spec(name) is not None
    except (ImportError, ValueError):  # somebody stands in the way of it
        return False


Arrays = dict[str, np.ndarray]

FATAL = 4  # severity of what onnxruntime still prints


class Session:
    """A graph, ready to be run. It may be asked by several threads at once.

    Args:
        raw: the bytes of an ONNX model. What comes from outside goes through `reading` first.
        threads: for each call.

    Raises:
        InklabError: onnxruntime is not installed.
        CorruptFileError: onnxruntime doesn't take it.
    """

    def __init__(self, raw: bytes, *, threads: int = 1) -> None:
        need("onnxruntime")
        import onnxruntime

        onnxruntime.disable_telemetry_events()  # sends on some systems only; nowhere from here
        onnxruntime.set_default_logger_severity(FATAL)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
        options.log_severity_level = FATAL
        options.add_session_config_entry("session.load_model_format", "ONNX")  # not its own, unchecked one
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")  # idle threads sleep
        try:
            self._session = onnxruntime.InferenceSession(raw, options, providers=["CPUExecutionProvider"])
        except Exception as error:  # its errors have no common class
            raise CorruptFileError(f"onnxruntime can't run this graph: {_first_line(error)}") from error
        self.given: str = self._session.get_inputs()[0].name
        self.gives: tuple[str, ...] = tuple(each.name for each in self._session.get_outputs())

    def __call__(self, given: np.ndarray) -> Arrays:
        """What the graph makes of some inputs.

        Args:
            given: `(b, ...)`; converted to float32.

        Returns:
            Arrays `(b, ...)` by the name of each output.

        Raises:
            CorruptFileError: the graph fails on it.
        """
        fed: dict[str, Any] = {self.given: np.ascontiguousarray(given, np.float32)}
        try:
            return dict(zip(self.gives, self._session.run(None, fed), strict=True))
        except Exception as error:
            raise CorruptFileError(f"onnxruntime fails in this graph: {_first_line(error)}") from error


def _first_line(error: Exception) -> str:
    return " ".join(str(error).split())[:200]

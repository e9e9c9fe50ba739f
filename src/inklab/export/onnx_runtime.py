"""ONNX graphs run by onnxruntime, and the packages that this needs. No torch."""

from collections.abc import Iterable
from importlib.util import find_spec
from typing import Any

import numpy as np

from inklab.errors import CorruptFileError, InklabError
from inklab.format import join_words

ADVICE = "pip install 'inklab[onnx]'"
FATAL = 4
"""Severity of what onnxruntime still prints."""

Outputs = dict[str, np.ndarray]
Shapes = dict[str, tuple[Any, ...]]
"""Sizes by name; a free one is a text or None."""


def require_packages(*packages: str) -> None:
    """Check that some packages are installed. Nothing is imported.

    Args:
        packages: names as they are imported.

    Raises:
        InklabError: one is not installed; the message says what to type.

    Example:
        >>> require_packages("json")
        >>> require_packages("json", "tomlkit_")
        Traceback (most recent call last):
        inklab.errors.InklabError: this needs tomlkit_, which is not installed: pip install 'inklab[onnx]'
    """
    missing = missing_packages(packages)
    if missing:
        verb = "is" if len(missing) == 1 else "are"
        raise InklabError(f"this needs {join_words(missing)}, which {verb} not installed: {ADVICE}")


def missing_packages(packages: Iterable[str]) -> list[str]:
    """Those of some packages that are not installed. Nothing is imported.

    Example:
        >>> missing_packages(["json", "tomlkit_"])
        ['tomlkit_']
    """
    return [name for name in packages if not _is_installed(name)]


def _is_installed(name: str) -> bool:
    try:
        return find_spec(name) is not None
    except (ImportError, ValueError):  # an import hook refuses it
        return False


class Session:
    """A graph that is ready to run. Several threads may call it at once.

    Args:
        raw: the bytes of an ONNX model.
        threads: of each call.

    Raises:
        InklabError: onnxruntime is not installed.
        CorruptFileError: onnxruntime does not accept the model.
    """

    def __init__(self, raw: bytes, *, threads: int = 1) -> None:
        require_packages("onnxruntime")
        import onnxruntime

        onnxruntime.disable_telemetry_events()  # sends on some systems only; nowhere from here
        onnxruntime.set_default_logger_severity(FATAL)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
        options.log_severity_level = FATAL
        options.add_session_config_entry("session.load_model_format", "ONNX")  # not its own format
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")  # idle threads sleep
        try:
            self._session = onnxruntime.InferenceSession(raw, options, providers=["CPUExecutionProvider"])
        except Exception as error:  # its errors have no common class
            raise CorruptFileError(f"onnxruntime can't run this graph: {_one_line(error)}") from error
        self.inputs: Shapes = {value.name: tuple(value.shape) for value in self._session.get_inputs()}
        self.outputs: Shapes = {value.name: tuple(value.shape) for value in self._session.get_outputs()}

    @property
    def input_name(self) -> str:
        """Of its first input."""
        return next(iter(self.inputs))

    @property
    def output_names(self) -> tuple[str, ...]:
        """Of all outputs, in their order."""
        return tuple(self.outputs)

    def __call__(self, inputs: np.ndarray) -> Outputs:
        """Run the graph.

        Args:
            inputs: `(b, ...)`; converted to float32.

        Returns:
            Arrays `(b, ...)` by the name of each output.

        Raises:
            CorruptFileError: the graph fails on them.
        """
        feed = {self.input_name: np.ascontiguousarray(inputs, np.float32)}
        try:
            return dict(zip(self.output_names, self._session.run(None, feed), strict=True))
        except Exception as error:
            raise CorruptFileError(f"onnxruntime fails in this graph: {_one_line(error)}") from error


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())[:200]

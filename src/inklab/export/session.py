"""A graph that is run by onnxruntime: on the CPU, in threads that are counted, silently. No torch."""

from typing import Any

import numpy as np

from inklab.errors import CorruptFile
from inklab.export.extra import need

Arrays = dict[str, np.ndarray]

FATAL = 4  # severity of what onnxruntime still prints


class Session:
    """A graph, ready to be run. It may be asked by several threads at once.

    Args:
        raw: the bytes of an ONNX model. What comes from outside goes through `reading` first.
        threads: for each call.

    Raises:
        InklabError: onnxruntime is not installed.
        CorruptFile: onnxruntime doesn't take it.
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
            raise CorruptFile(f"onnxruntime can't run this graph: {_first_line(error)}") from error
        self.given: str = self._session.get_inputs()[0].name
        self.gives: tuple[str, ...] = tuple(each.name for each in self._session.get_outputs())

    def __call__(self, given: np.ndarray) -> Arrays:
        """What the graph makes of some inputs.

        Args:
            given: `(b, ...)`; converted to float32.

        Returns:
            Arrays `(b, ...)` by the name of each output.

        Raises:
            CorruptFile: the graph fails on it.
        """
        fed: dict[str, Any] = {self.given: np.ascontiguousarray(given, np.float32)}
        try:
            return dict(zip(self.gives, self._session.run(None, fed), strict=True))
        except Exception as error:
            raise CorruptFile(f"onnxruntime fails in this graph: {_first_line(error)}") from error


def _first_line(error: Exception) -> str:
    return " ".join(str(error).split())[:200]

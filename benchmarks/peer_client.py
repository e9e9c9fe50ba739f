"""Starts peers and sends them requests; a peer that fails gives one line of explanation."""

import contextlib
import json
import os
import select
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

from benchmarks.options import HOME, ROOT, BenchmarkError
from benchmarks.peer_protocol import PeerInfo, PrepareRequest, UnitTiming

PEERS_PYTHON = HOME / ".venv-peers" / "bin" / "python"
PROJECT_PYTHON = Path(sys.executable)
MAX_PREPARE_SECONDS = MAX_MEASURE_SECONDS = 600.0  # far beyond any, so that a hanging peer ends the benchmark
CLOSE_SECONDS = 10.0
THREAD_VARIABLES = ("OMP_", "MKL_", "OPENBLAS_", "GOMP_", "KMP_", "TORCH_NUM", "XLA_FLAGS")
"""Variables that would limit a peer's threads or choose its kernels; every process runs without them."""


class PeerError(BenchmarkError):
    """A peer ended, hung or failed."""


@dataclass(frozen=True)
class Program:
    """What is measured: a module that speaks the protocol.

    Attributes:
        name: as in the claims.
        module: that `python -m` runs.
        python: the interpreter, and so the environment.
        env: its own variables.
    """

    name: str
    module: str
    python: Path = PEERS_PYTHON
    env: Mapping[str, str] = field(default_factory=dict)

    def start(self, logs: Path) -> "PeerProcess":
        """Start it, with its log in a folder."""
        command = [str(self.python), "-m", self.module]
        return PeerProcess(self.name, command, process_environment(self.env), logs / f"{self.name}.log")


def process_environment(variables: Mapping[str, str] | None = None) -> dict[str, str]:
    """Variables of a measured process: none that sets threads or kernels, no accelerator, and its own."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(THREAD_VARIABLES)}
    defaults = {"CUDA_VISIBLE_DEVICES": "", "JAX_PLATFORMS": "cpu", "TF_CPP_MIN_LOG_LEVEL": "2"}
    return inherited | defaults | {"PYTHONUNBUFFERED": "1"} | dict(variables or {})


class PeerProcess:
    """A started peer; it sleeps until it gets a request.

    Args:
        name: for messages.
        command: that starts it.
        env: all of its environment variables.
        log: file for what it prints.

    Raises:
        PeerError: it can't be started.
    """

    def __init__(self, name: str, command: Sequence[str], env: Mapping[str, str], log: Path) -> None:
        self.name, self.log = name, log
        if not Path(command[0]).exists():
            raise PeerError(f"peer '{name}' has no interpreter '{command[0]}'; run `make bench-setup` first")
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("wb") as errors:
            self.process = subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors,
                env=dict(env), cwd=ROOT, text=True, encoding="utf-8",
            )  # fmt: skip

    def prepare(self, request: PrepareRequest) -> PeerInfo:
        """Have it load, build and warm up.

        Raises:
            PeerError: it ended, failed or hung.
        """
        return PeerInfo(**self._request("prepare", asdict(request), MAX_PREPARE_SECONDS))  # type: ignore[arg-type]

    def measure(self, limit: float = MAX_MEASURE_SECONDS) -> UnitTiming:
        """Have it do one unit, in at most `limit` seconds.

        Raises:
            PeerError: it ended, failed or hung.
        """
        return UnitTiming(**self._request("measure", {}, limit))  # type: ignore[arg-type]

    def _request(self, command: str, fields: Mapping[str, object], limit: float) -> dict[str, object]:
        assert self.process.stdin and self.process.stdout
        try:
            self.process.stdin.write(json.dumps({"command": command, **fields}) + "\n")
            self.process.stdin.flush()
        except OSError:
            raise self._exit_error(command) from None
        ready, _, _ = select.select([self.process.stdout], [], [], limit)
        if not ready:
            raise PeerError(
                f"peer '{self.name}' gave no answer to '{command}' in {limit:g} s; its log: {self.log}"
            )
        line = self.process.stdout.readline()
        if not line:
            raise self._exit_error(command)
        return self._parse(line, command)

    def _parse(self, line: str, command: str) -> dict[str, object]:
        try:
            answer: dict[str, object] = json.loads(line)
        except ValueError:
            message = f"peer '{self.name}' answered '{command}' with {line[:80]!r}, which is not JSON"
            raise PeerError(message) from None
        if "error" in answer:
            raise PeerError(f"peer '{self.name}' failed to {command}: {answer['error']}; its log: {self.log}")
        return answer

    def _exit_error(self, command: str) -> PeerError:
        self.process.wait(CLOSE_SECONDS)
        lines = self.log.read_text(encoding="utf-8", errors="replace").strip().splitlines()
        last = f"; its last line: {lines[-1].strip()[:200]}" if lines else ""
        return PeerError(
            f"peer '{self.name}' ended with exit code {self.process.returncode} at '{command}'{last}; "
            f"its log: {self.log}"
        )

    def close(self) -> None:
        """Ask it to quit, and kill it if it doesn't."""
        assert self.process.stdin and self.process.stdout
        with contextlib.suppress(OSError, ValueError):  # it has ended, or was asked before
            self.process.stdin.write('{"command": "quit"}\n')
            self.process.stdin.close()
        try:
            self.process.wait(CLOSE_SECONDS)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.process.stdout.close()


def run_module(module: str, arguments: Sequence[str], env: Mapping[str, str], python: Path) -> str:
    """Run a module of the benchmarks as a process of its own.

    Args:
        module: that `python -m` runs.
        arguments: of its command line.
        env: its own variables.
        python: the interpreter.

    Returns:
        What it prints.

    Raises:
        BenchmarkError: it failed; the last line of its errors is in the message.
    """
    if not python.exists():
        raise BenchmarkError(f"'{module}' has no interpreter '{python}'; run `make bench-setup` first")
    process = subprocess.run(
        [str(python), "-m", module, *arguments], cwd=ROOT, env=process_environment(env), capture_output=True,
        text=True, timeout=MAX_MEASURE_SECONDS,
    )  # fmt: skip
    if process.returncode:
        last = (process.stderr.strip().splitlines() or ["it printed nothing"])[-1]
        raise BenchmarkError(f"'{module}' ended with exit code {process.returncode}: {last}")
    return process.stdout
